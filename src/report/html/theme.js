"use strict";
(function () {
  var root = document.documentElement;
  // A page from disk may be denied its storage.
  function stored() { try { return localStorage.getItem("llava-gauge-theme"); } catch (error) { return null; } }
  function store(theme) { try { localStorage.setItem("llava-gauge-theme", theme); } catch (error) { /* only not remembered */ } }
  var theme = stored();
  if (theme === "dark" || theme === "light") { root.dataset.theme = theme; }
  function dark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  }
  document.addEventListener("DOMContentLoaded", function () {
    var button = document.getElementById("theme");
    if (button) {
      var show = function () {
        button.textContent = dark() ? "Light" : "Dark";
        button.setAttribute("aria-label", dark() ? "Light colours" : "Dark colours");
      };
      button.hidden = false;
      show();
      button.addEventListener("click", function () {
        root.dataset.theme = dark() ? "light" : "dark";
        store(root.dataset.theme);
        show();
      });
      matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
    }
    // A link to something inside a fold opens the fold.
    var reveal = function () {
      var target = null;
      try { target = document.getElementById(decodeURIComponent(location.hash.slice(1))); } catch (error) { return; }
      if (!target) { return; }
      for (var at = target; at; at = at.parentElement) { if (at.tagName === "DETAILS") { at.open = true; } }
      if (target.closest("details")) { target.scrollIntoView(); }
    };
    addEventListener("hashchange", reveal);
    reveal();
  });
  // Paper cannot unfold anything.
  var opened = [];
  addEventListener("beforeprint", function () {
    opened = Array.prototype.filter.call(document.querySelectorAll("main details:not([open])"), function (fold) {
      return !fold.closest("#samples");
    });
    opened.forEach(function (fold) { fold.open = true; });
  });
  addEventListener("afterprint", function () { opened.forEach(function (fold) { fold.open = false; }); opened = []; });
})();
