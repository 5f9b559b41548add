// Source: where the figures come from. A live stream; /status every two seconds where there is none to be had; and
// patience where the service is away: it comes back by itself.

const pollEvery = 2000;
const streamAgainAfter = 30000;
const silence = 6000;  // the stream sends something each second
const hiddenFor = 60000;

export class Source {
  /** `onStatus(status)` for each set of figures, `onState('live' | 'polling' | 'lost')` when that changes. */
  constructor(onStatus, onState) {
    this.onStatus = onStatus;
    this.onState = onState;
    this.stream = null;
    this.timers = {};
    document.addEventListener('visibilitychange', () => this.visibility());
  }

  start() {
    this.stop();
    this.stream = new EventSource('stream');
    this.stream.onmessage = (event) => this.deliver(event.data, 'live');
    this.stream.onerror = () => {
      // Closed: refused for good (as many streams as may be are open). Else the browser tries again; so do we, sooner.
      if (this.stream !== null && this.stream.readyState === EventSource.CLOSED) this.drop();
      this.poll();
    };
    this.watch();
  }

  stop() {
    this.drop();
    for (const timer of Object.values(this.timers)) clearTimeout(timer);
    this.timers = {};
  }

  drop() {
    this.stream?.close();
    this.stream = null;
  }

  later(name, delay, action) {
    clearTimeout(this.timers[name]);
    this.timers[name] = setTimeout(action, delay);
  }

  watch() {
    this.later('watch', silence, () => this.poll());
  }

  deliver(text, state) {
    const status = JSON.parse(text);
    if (state === 'live') {
      clearTimeout(this.timers.poll);
      clearTimeout(this.timers.again);
      this.watch();
    }
    this.onState(state);
    this.onStatus(status);
  }

  /** One question to /status, and so on until a stream delivers. */
  async poll() {
    this.later('poll', pollEvery, () => this.poll());
    this.timers.again ??= setTimeout(() => this.start(), streamAgainAfter);
    try {
      const answer = await fetch('status', { cache: 'no-store', signal: AbortSignal.timeout(silence) });
      if (!answer.ok) throw new Error(`status ${answer.status}`);
      const text = await answer.text();
      if (this.timers.poll !== undefined) this.deliver(text, 'polling');
      // It answers again, while the browser may wait long until it opens the stream by itself.
      if (this.lost && this.stream !== null) this.start();
      this.lost = false;
    } catch {
      this.lost = true;
      this.onState('lost');
    }
  }

  /** A page that nobody looks at gives its stream back. */
  visibility() {
    if (document.hidden) {
      this.later('hidden', hiddenFor, () => this.stop());
    } else {
      clearTimeout(this.timers.hidden);
      if (this.stream === null) this.start();
    }
  }
}
