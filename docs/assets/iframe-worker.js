// A browser starts no worker from a file. Where the pages are read from disk, the search runs in a hidden frame instead,
// which hears and answers as a worker does. The theme looks for this class by its name.
if (location.protocol === "file:")
  window.Worker = window.IFrameWorker = class extends EventTarget {
    constructor(url) {
      super();
      const frame = document.createElement("iframe");
      frame.hidden = true;
      document.body.append(frame);
      const inner = frame.contentWindow, listeners = [];
      const load = (source) => new Promise((resolve, reject) => {
        const script = inner.document.createElement("script");
        Object.assign(script, { src: source, onload: resolve, onerror: reject });
        inner.document.body.append(script);
      });
      inner.addEventListener = (type, listener) => type === "message" && listeners.push(listener);
      inner.postMessage = (data) => this.dispatchEvent(new MessageEvent("message", { data }));
      inner.importScripts = (...sources) => Promise.all(sources.map(load));
      const ready = load(new URL(url, location));
      this.postMessage = (data) => ready.then(() => listeners.forEach((listener) => listener({ data })));
    }
  };
