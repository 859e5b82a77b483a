// Values under the pointer. Without this the page says the same, in tables and figures.
for (const figure of document.querySelectorAll("figure[data-hover]")) {
  const data = JSON.parse(figure.dataset.hover);
  const guide = document.createElement("div");
  const tip = document.createElement("div");
  guide.className = "guide";
  tip.className = "tip";
  const hide = () => { guide.remove(); tip.remove(); };
  const show = (event) => {
    const svg = figure.querySelector("svg");
    const box = svg.getBoundingClientRect();
    const outer = figure.getBoundingClientRect();
    const left = data.left * box.width, right = data.right * box.width;
    const at = (event.clientX - box.left - left) / (right - left);
    const x = Math.round(data.from + at * (data.to - data.from));
    if (at < 0 || at > 1 || x < 1 || x > data.last) return hide();
    const place = box.left - outer.left + left + (x - data.from) / (data.to - data.from) * (right - left);
    const phase = data.phases[x - 1];
    tip.textContent = `${data.axis} ${x}${phase ? `, ${phase}` : ""}`;
    for (const series of data.series) {
      const value = series.values[x - 1];
      if (value === undefined) continue;
      const line = document.createElement("div");
      const colour = document.createElement("i");
      colour.style.setProperty("--light", series.light);
      colour.style.setProperty("--dark", series.dark);
      line.append(colour, `${series.rule} ${value}`);
      tip.append(line);
    }
    figure.append(guide, tip);
    const top = box.top - outer.top + data.top * box.height;
    guide.style.cssText = `left:${place}px;top:${top}px;height:${(data.bottom - data.top) * box.height}px`;
    const beside = place > outer.width / 2 ? place - tip.offsetWidth - 10 : place + 10;
    const within = Math.min(Math.max(beside, 2), outer.width - tip.offsetWidth - 2);
    tip.style.cssText = `left:${Math.max(within, 2)}px;top:${top + 4}px`;
  };
  figure.addEventListener("pointermove", show);
  figure.addEventListener("pointerdown", show);
  figure.addEventListener("pointerleave", hide);
}
