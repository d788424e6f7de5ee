"""Hidden checks: answers compared with a computation of our own on random cases.

One file a notebook; each has `HIDDEN`, from an exercise's name to a function of the answer and a
torch.Generator, which raises Wrong or returns. The marker draws the generator from the instructor's
seed, so that an answer fitted to the shown cases fails. An exercise whose answer is a value needs
none. This folder is not part of the package that students install.
"""
