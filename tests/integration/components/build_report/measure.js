// Measures the report as a reader sees it; run in the page by test_browser.py.
(() => {
  const seen = (element) => {
    const box = element.getBoundingClientRect();
    return box.width > 100 && box.height > 40;
  };
  const rgb = (text) => text.match(/[\d.]+/g).map(Number);
  // Contrast as WCAG 2.2 defines it (1.4.3, relative luminance).
  const luminance = ([r, g, b]) =>
    [r, g, b]
      .map((v) => v / 255)
      .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
      .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (element) => {
    for (let e = element; e; e = e.parentElement) {
      const colour = rgb(getComputedStyle(e).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const contrast = (element) => {
    const a = luminance(rgb(getComputedStyle(element).color));
    const b = luminance(behind(element));
    return (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  };
  const texts = "h1 .word, h2, h3, p, dt, dd, td, th, small, .chip, .took, .said, .error, nav a, footer";
  const cut = [...document.querySelectorAll("svg")].flatMap((svg) => {
    const outer = svg.getBoundingClientRect();
    return [...svg.querySelectorAll("text")]
      .filter((text) => {
        const box = text.getBoundingClientRect();
        return box.left < outer.left - 4 || box.right > outer.right + 6 || box.bottom > outer.bottom + 4;
      })
      .map((text) => text.textContent);
  });
  const sections = ["verdict", "timeline", "data", "training", "candidates", "figures", "canary", "provenance", "spec"];
  return {
    hidden: sections.filter((id) => !document.getElementById(id) || !seen(document.getElementById(id))),
    overflow: document.documentElement.scrollWidth - window.innerWidth,
    faint: [...document.querySelectorAll(texts)]
      .filter((e) => contrast(e) < 4.5)
      .map((e) => `${e.tagName}.${e.className} ${contrast(e).toFixed(2)} ${e.textContent.slice(0, 30)}`),
    cut,
    charts: document.querySelectorAll("svg").length,
    background: getComputedStyle(document.body).backgroundColor,
  };
})();
