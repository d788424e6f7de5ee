// What is on the screen, frame by frame, told by the page itself: no round trip is in its times.
window.watch = {
  scratch: document.createElement("canvas"),

  // A number for the pixels of an <img> or <canvas>; 0 where nothing is to be seen.
  fingerprint(picture) {
    const width = picture?.naturalWidth ?? picture?.width ?? 0;
    const height = picture?.naturalHeight ?? picture?.height ?? 0;
    if (!width || !height || !picture.isConnected || !picture.checkVisibility({ visibilityProperty: true })) return 0;
    if (picture.getBoundingClientRect().height < 1) return 0;
    Object.assign(this.scratch, { width, height });
    const context = this.scratch.getContext("2d", { willReadFrequently: true });
    context.drawImage(picture, 0, 0);
    const pixels = new Uint32Array(context.getImageData(0, 0, width, height).data.buffer);
    let hash = 2166136261;
    let blank = true;
    for (const pixel of pixels) {
      hash = Math.imul(hash ^ pixel, 16777619);
      blank &&= pixel === pixels[0];
    }
    return blank ? 0 : hash >>> 0 || 1;
  },

  // The picture of an output area, whichever it is at the moment.
  picture: (area) => area.querySelector("canvas, img"),

  now(area) {
    return this.fingerprint(this.picture(area));
  },

  // Note each input, each change of the area's picture and of its words, and each frame without a
  // picture, until `end`. A change's time is that of the first task after the frame that painted
  // it; an input's is when the browser received it.
  begin(area) {
    const record = { inputs: [], changes: [], words: [], blanks: 0, frames: 0 };
    const heard = (event) => record.inputs.push({ type: event.type, time: event.timeStamp });
    const types = ["keydown", "pointerdown", "pointermove", "click"];
    for (const type of types) window.addEventListener(type, heard, { capture: true, passive: true });
    let last = this.now(area);
    let said = area.textContent;
    let going = true;
    const afterPaint = (act) => {
      const painted = new MessageChannel();
      painted.port1.onmessage = () => act(performance.now());
      painted.port2.postMessage(null);
    };
    const look = () => {
      if (!going) return;
      record.frames += 1;
      const picture = this.picture(area);
      // While an image's new source loads, the browser goes on painting the last one.
      const loading = picture?.complete === false && picture.getBoundingClientRect().height > 1;
      const print = loading ? last : this.fingerprint(picture);
      const words = area.textContent;
      if (!print) record.blanks += 1;
      if (print && print !== last) {
        last = print;
        afterPaint((time) => record.changes.push({ print, time }));
      }
      if (words !== said) {
        said = words;
        afterPaint((time) => record.words.push({ words, time }));
      }
      requestAnimationFrame(look);
    };
    requestAnimationFrame(look);
    this.record = record;
    this.end = () => {
      going = false;
      for (const type of types) window.removeEventListener(type, heard, { capture: true });
      return record;
    };
  },
};
