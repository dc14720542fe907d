// The page of an exported recording: unpacks what the page holds, and plays it. Nothing is fetched.

import { create } from "asciinema-player";

const packed = document.getElementById("recording").textContent;
const place = document.getElementById("player");

async function unpacked() {
  const bytes = Uint8Array.from(atob(packed), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return await new Response(stream).text();
}

unpacked().then(
  (data) => {
    place.textContent = "";
    create({ data }, place, { controls: true, fit: "both", preload: true, terminalFontFamily: "monospace" });
    place.querySelector(".ap-wrapper, .ap-player")?.focus({ preventScroll: true });
  },
  (error) => {
    place.textContent = `This recording cannot be unpacked: the file was cut off or changed, or the browser is too old. (${error})`;
  },
);
