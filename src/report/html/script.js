(function () {
  "use strict";
  var bar = document.getElementById("filters");
  if (!bar) { return; }
  var benchmark = document.getElementById("filter-benchmark");
  var kind = document.getElementById("filter-kind");
  var shown = document.getElementById("filter-count");
  var cards = Array.prototype.slice.call(document.querySelectorAll(".card"));
  var folds = Array.prototype.slice.call(document.querySelectorAll("details.rest"));
  var groups = Array.prototype.slice.call(document.querySelectorAll(".bench"));
  function apply() {
    var count = 0;
    cards.forEach(function (card) {
      var fits = (benchmark.value === "" || card.dataset.benchmark === benchmark.value) &&
        (kind.value === "" || (" " + card.dataset.kinds + " ").indexOf(" " + kind.value + " ") >= 0);
      card.hidden = !fits;
      if (fits) { count += 1; }
    });
    groups.forEach(function (group) { group.hidden = !group.querySelector(".card:not([hidden])"); });
    var filtered = benchmark.value !== "" || kind.value !== "";
    folds.forEach(function (fold) {
      if (filtered) { fold.open = true; }
      fold.hidden = !fold.querySelector(".card:not([hidden])");
    });
    shown.textContent = filtered ? count + " of " + cards.length + " fit" : "";
  }
  benchmark.addEventListener("change", apply);
  kind.addEventListener("change", apply);
  bar.hidden = false;
  apply();
})();
