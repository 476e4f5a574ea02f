// How long pictures stood still and microphones were silent, by the page's own clock.

window.watch = (() => {
  const senses = new Map();
  const quiet = 0.02; // of full scale; the fake microphone beeps each half second

  /** Something came: the pause before it counts. */
  function note(sense, now) {
    sense.longest = Math.max(sense.longest, now - sense.last);
    sense.last = now;
    sense.count += 1;
  }

  // How long this page itself stood still: a busy machine is not the server's fault.
  const own = fresh(performance.now());
  setInterval(() => note(own, performance.now()), 50);

  function fresh(now) {
    return { longest: 0, last: now, count: 0 };
  }

  /** Every new picture on the screen. */
  function see(id) {
    const video = document.querySelector(`[id="${id}"] video`);
    const each = (now) => {
      // The element is another one after a new join.
      if (document.querySelector(`[id="${id}"] video`) !== video) return see(id);
      note(senses.get(id), performance.now());
      video.requestVideoFrameCallback(each);
    };
    video.requestVideoFrameCallback(each);
  }

  function hear(identity) {
    setInterval(() => {
      if (window.call.loudness(identity, 2) > quiet) note(senses.get(`${identity}-microphone`), performance.now());
    }, 50);
  }

  return {
    begin(identities) {
      for (const identity of identities) {
        for (const source of ['camera', 'microphone']) senses.set(`${identity}-${source}`, fresh(performance.now()));
        see(`${identity}-camera`);
        hear(identity);
      }
    },
    /** What is told from now on begins now. */
    mark() {
      for (const id of senses.keys()) senses.set(id, fresh(performance.now()));
      Object.assign(own, fresh(performance.now()));
    },
    /**
     * Of each: the longest pause since the mark in ms, the one that lasts included, and how often it came;
     * and the longest pause of the page itself.
     */
    told() {
      const now = performance.now();
      const tell = ({ longest, last, count }) => ({ longest: Math.round(Math.max(longest, now - last)), count });
      const told = Object.fromEntries([...senses].map(([id, sense]) => [id, tell(sense)]));
      return { told, own: tell(own).longest };
    },
  };
})();
