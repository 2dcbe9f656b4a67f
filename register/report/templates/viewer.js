"use strict";
const viewer = document.querySelector(".viewer"), slider = document.getElementById("swipe"), stage = viewer.querySelector(".stage");
const under = viewer.querySelector(".under"), over = viewer.querySelector(".over"), words = document.getElementById("sides");
const bar = viewer.querySelector(".bar"), flicker = document.getElementById("flicker");
let zoom = 1, left = 0, top_ = 0, timer = 0, grab = null;
const show = () => {
  viewer.style.setProperty("--at", slider.value + "%");
  viewer.style.setProperty("--inner", (slider.value / 100 - left) / zoom * 100 + "%");
  viewer.style.setProperty("--share", slider.value / 100);
};
const place = () => {
  left = Math.min(Math.max(left, 1 - zoom), 0);
  top_ = Math.min(Math.max(top_, 1 - zoom), 0);
  stage.style.transform = `translate(${100 * left}%, ${100 * top_}%) scale(${zoom})`;
  if (bar) {
    const wanted = viewer.dataset.across / zoom / 5, power = 10 ** Math.floor(Math.log10(wanted));
    const nice = [5, 2, 1].map((n) => n * power).find((n) => n <= wanted) ?? power;
    bar.style.width = 100 * nice * zoom / viewer.dataset.across + "%";
    bar.firstElementChild.textContent = Number(nice.toPrecision(2)) + " " + viewer.dataset.unit;
  }
  show();
};
const scaled = (factor, x = 0.5, y = 0.5) => {
  const next = Math.min(Math.max(zoom * factor, 1), 16);
  left = x - (x - left) * next / zoom;
  top_ = y - (y - top_) * next / zoom;
  zoom = next;
  place();
};
const choose = (radio) => {
  const [first, second] = radio.value.split(" ");
  for (const [image, name] of [[under, first], [over, second]]) {
    const source = document.getElementById("picture-" + name);
    image.src = source.src;
    image.alt = source.alt;
  }
  words.textContent = radio.dataset.words;
};
slider.addEventListener("input", show);
for (const radio of document.querySelectorAll("input[name=compare]")) radio.addEventListener("change", () => choose(radio));
for (const radio of document.querySelectorAll("input[name=view]")) radio.addEventListener("change", () => { viewer.className = "viewer " + radio.value; });
flicker.addEventListener("click", () => {
  clearInterval(timer);
  const on = flicker.getAttribute("aria-pressed") !== "true";
  flicker.setAttribute("aria-pressed", on);
  viewer.classList.toggle("flicker", on);
  if (on) timer = setInterval(() => viewer.classList.toggle("hidden"), 600);
  else viewer.classList.remove("hidden");
});
document.getElementById("in").addEventListener("click", () => scaled(1.5));
document.getElementById("out").addEventListener("click", () => scaled(1 / 1.5));
document.getElementById("all").addEventListener("click", () => scaled(1 / zoom));
const at = (event) => {
  const box = viewer.getBoundingClientRect();
  return [(event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height];
};
const swipe = (x) => { slider.value = Math.round(100 * Math.min(Math.max(x, 0), 1)); show(); };
viewer.addEventListener("wheel", (event) => { event.preventDefault(); scaled(event.deltaY < 0 ? 1.25 : 0.8, ...at(event)); }, { passive: false });
viewer.addEventListener("pointerdown", (event) => {
  event.preventDefault();
  viewer.setPointerCapture(event.pointerId);
  const [x, y] = at(event), near = Math.abs(x - slider.value / 100) < 0.03;
  grab = zoom > 1 && !(near && viewer.classList.contains("swipe")) ? [x - left, y - top_] : null;
  if (!grab) swipe(x);
});
viewer.addEventListener("pointermove", (event) => {
  if (!event.buttons) return;
  const [x, y] = at(event);
  if (grab) { [left, top_] = [x - grab[0], y - grab[1]]; place(); } else swipe(x);
});
place();
