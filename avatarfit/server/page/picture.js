// The person on a canvas: colours above their matte come as one video picture and are put together in a shader.

const VERTEX = `
attribute vec2 corner;
varying vec2 at;
void main() {
  at = vec2(corner.x, 1.0 - corner.y);
  gl_Position = vec4(2.0 * corner - 1.0, 0.0, 1.0);
}`;

// A coder leaves noise where the matte is empty or full: its ends are drawn together a little.
const FRAGMENT = `
precision highp float;
varying vec2 at;
uniform sampler2D coded;
uniform vec2 size;
uniform float matteRow;
uniform bool alpha;
void main() {
  vec2 place = at * size;
  vec3 colour = texture2D(coded, place).rgb;
  if (!alpha) {
    gl_FragColor = vec4(colour, 1.0);
    return;
  }
  float matte = clamp((texture2D(coded, place + vec2(0.0, matteRow)).g - 0.025) / 0.95, 0.0, 1.0);
  gl_FragColor = vec4(min(colour, matte), matte);
}`;

export class Picture {
  /** Draws what a video shows. `gl` is null where the browser has no WebGL. */
  constructor(canvas, video) {
    this.canvas = canvas;
    this.video = video;
    this.shown = this.count = 0;
    this.packing = null;
    this.gl = canvas.getContext("webgl", { premultipliedAlpha: true, antialias: false, preserveDrawingBuffer: false });
    if (this.gl) {
      this.#prepare();
      canvas.addEventListener("webglcontextlost", (event) => event.preventDefault());
      canvas.addEventListener("webglcontextrestored", () => this.#prepare());
    }
    this.#wait();
  }

  /** Where picture and matte lie from now on: `picture` of the server's answer. */
  set layout(packing) {
    this.packing = packing;
    if (this.canvas.width === packing.width_px && this.canvas.height === packing.height_px) return;
    this.canvas.width = packing.width_px;
    this.canvas.height = packing.height_px;
  }

  #prepare() {
    const gl = this.gl;
    const program = gl.createProgram();
    for (const [kind, text] of [[gl.VERTEX_SHADER, VERTEX], [gl.FRAGMENT_SHADER, FRAGMENT]]) {
      const shader = gl.createShader(kind);
      gl.shaderSource(shader, text);
      gl.compileShader(shader);
      gl.attachShader(program, shader);
    }
    gl.linkProgram(program);
    gl.useProgram(program);
    gl.bindBuffer(gl.ARRAY_BUFFER, gl.createBuffer());
    gl.bufferData(gl.ARRAY_BUFFER, new Float32Array([0, 0, 1, 0, 0, 1, 1, 1]), gl.STATIC_DRAW);
    const corner = gl.getAttribLocation(program, "corner");
    gl.enableVertexAttribArray(corner);
    gl.vertexAttribPointer(corner, 2, gl.FLOAT, false, 0, 0);
    gl.bindTexture(gl.TEXTURE_2D, gl.createTexture());
    for (const side of [gl.TEXTURE_WRAP_S, gl.TEXTURE_WRAP_T]) gl.texParameteri(gl.TEXTURE_2D, side, gl.CLAMP_TO_EDGE);
    for (const filter of [gl.TEXTURE_MIN_FILTER, gl.TEXTURE_MAG_FILTER]) gl.texParameteri(gl.TEXTURE_2D, filter, gl.LINEAR);
    this.place = (name) => gl.getUniformLocation(program, name);
  }

  #wait() {
    if ("requestVideoFrameCallback" in this.video) {
      this.video.requestVideoFrameCallback(() => { this.#draw(); this.#wait(); });
      return;
    }
    requestAnimationFrame(() => {
      const count = this.video.getVideoPlaybackQuality().totalVideoFrames;
      if (count !== this.count) this.#draw();
      this.count = count;
      this.#wait();
    });
  }

  #draw() {
    const { gl, packing, video } = this;
    // While another session's pictures still come, they have another size than its layout says.
    if (!packing || video.videoWidth !== packing.coded_width_px || video.videoHeight !== packing.coded_height_px) return;
    this.shown += 1;
    if (!gl || gl.isContextLost()) return;
    gl.viewport(0, 0, this.canvas.width, this.canvas.height);
    gl.texImage2D(gl.TEXTURE_2D, 0, gl.RGB, gl.RGB, gl.UNSIGNED_BYTE, video);
    gl.uniform2f(this.place("size"), packing.width_px / packing.coded_width_px, packing.height_px / packing.coded_height_px);
    gl.uniform1f(this.place("matteRow"), packing.matte_row_px / packing.coded_height_px);
    gl.uniform1i(this.place("alpha"), packing.alpha);
    gl.drawArrays(gl.TRIANGLE_STRIP, 0, 4);
  }
}
