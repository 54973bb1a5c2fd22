// The microphone: asked for when it is wanted, with a level to see that it hears.

const SENTENCES = {
  NotAllowedError: "The microphone is not allowed. Allow it beside the page's address, then press again.",
  NotFoundError: "No microphone was found. Plug one in, then press again.",
  NotReadableError: "The microphone is in use by another program. Close that, then press again.",
};

export class Microphone {
  /** `level(0..1)` is told while it is on. */
  constructor(level) {
    this.level = level;
    this.stream = null;
  }

  get track() {
    return this.stream?.getAudioTracks()[0] ?? null;
  }

  /** Turns it on; throws an Error whose message is a sentence. */
  async open(onEnded) {
    if (!navigator.mediaDevices?.getUserMedia) {
      throw new Error("Browsers give the microphone only to pages of https or of this machine.");
    }
    try {
      this.stream = await navigator.mediaDevices.getUserMedia({
        audio: { echoCancellation: true, noiseSuppression: true, autoGainControl: true, channelCount: 1 },
      });
    } catch (error) {
      throw new Error(SENTENCES[error.name] ?? `The microphone cannot be used (${error.name}).`);
    }
    this.track.onended = onEnded;
    this.#watch();
  }

  close() {
    for (const track of this.stream?.getTracks() ?? []) track.stop();
    this.context?.close();
    this.stream = this.context = null;
    this.level(0);
  }

  #watch() {
    this.context = new AudioContext();
    const analyser = this.context.createAnalyser();
    analyser.fftSize = 1024;
    this.context.createMediaStreamSource(this.stream).connect(analyser);
    const samples = new Float32Array(analyser.fftSize);
    const context = this.context;
    let shown = 0;
    const look = () => {
      if (this.context !== context) return;
      analyser.getFloatTimeDomainData(samples);
      const power = samples.reduce((sum, sample) => sum + sample * sample, 0) / samples.length;
      // From -55 dB to -15 dB; it falls slowly, so that the eye can follow.
      const level = Math.min(Math.max((10 * Math.log10(power + 1e-9) + 55) / 40, 0), 1);
      shown = Math.max(level, 0.9 * shown);
      this.level(shown);
      requestAnimationFrame(look);
    };
    look();
  }
}
