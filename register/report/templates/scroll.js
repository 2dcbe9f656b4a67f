"use strict";
const shown = document.getElementById("shown"), place = document.getElementById("place"), label = document.getElementById("label");
const play = document.getElementById("play"), frames = [...document.querySelectorAll("img.frame")];
let timer = 0;
const draw = () => {
  const frame = frames[place.value], when = document.querySelector("input[name=when]:checked").value;
  shown.src = frame.dataset[when] || frame.dataset.after;
  label.textContent = frame.dataset.id;
};
const next = () => { place.value = (Number(place.value) + 1) % frames.length; draw(); };
place.addEventListener("input", draw);
for (const radio of document.querySelectorAll("input[name=when]")) radio.addEventListener("change", draw);
play.addEventListener("click", () => {
  if (timer) { clearInterval(timer); timer = 0; } else { timer = setInterval(next, 250); }
  play.setAttribute("aria-pressed", String(Boolean(timer)));
  play.textContent = timer ? "Pause" : "Play";
});
draw();
