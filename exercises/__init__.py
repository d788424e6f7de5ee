"""All that exercises need: their trials, the answers, handing out, marking, and their tests."""
