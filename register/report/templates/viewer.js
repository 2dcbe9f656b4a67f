"use strict";
const viewer = document.querySelector(".viewer"), slider = document.getElementById("swipe");
const under = viewer.querySelector(".under"), over = viewer.querySelector(".over"), words = document.getElementById("sides");
const show = () => viewer.style.setProperty("--at", slider.value + "%");
const choose = (radio) => {
  const [left, right] = radio.value.split(" ");
  for (const [image, name] of [[under, left], [over, right]]) {
    const source = document.getElementById("picture-" + name);
    image.src = source.src;
    image.alt = source.alt;
  }
  words.textContent = radio.dataset.words;
};
slider.addEventListener("input", show);
for (const radio of document.querySelectorAll("input[name=compare]")) radio.addEventListener("change", () => choose(radio));
const drag = (event) => {
  const box = viewer.getBoundingClientRect();
  slider.value = Math.round(100 * Math.min(Math.max((event.clientX - box.left) / box.width, 0), 1));
  show();
};
viewer.addEventListener("pointerdown", (event) => { event.preventDefault(); viewer.setPointerCapture(event.pointerId); drag(event); });
viewer.addEventListener("pointermove", (event) => { if (event.buttons) drag(event); });
show();
