// The sample browser. Everything from outside stands in the data as text and gets into the page as text: by textContent, or as
// an attribute that holds no code. The state is kept in the address after "#", so that links and the Back button work.
(function () {
  "use strict";
  var source = document.getElementById("sample-data");
  if (!source) { return; }
  var data = JSON.parse(source.textContent);
  var PER_PAGE = 20;
  var byId = function (id) { return document.getElementById(id); };
  var list = byId("sample-cards"), bar = byId("sample-filters"), said = byId("sample-count"), pager = byId("sample-pager");
  var search = byId("filter-search"), zoom = byId("zoom-dialog"), keys = byId("keys-dialog");
  var selects = {
    outcome: byId("filter-outcome"), benchmark: byId("filter-benchmark"), category: byId("filter-category"), pair: byId("filter-pair")
  };
  var NO_CATEGORY = "(none)";
  var OUTCOMES = [["differs", "scores differ"], ["broken", "▼ broken"], ["fixed", "▲ fixed"], ["wrong", "✗ wrong or partly"],
    ["right", "✓ all right"], ["unparsed", "? unparsed"], ["failed", "! failed"], ["unscored", "– no score"]];

  // Reading the data. The places of its numbers are told where the program writes them.
  function text(place) { return place < 0 ? null : data.strings[place]; }
  var samples = data.samples.map(function (raw, order) {
    return {
      order: order, benchmark: raw[0], key: raw[1], category: text(raw[2]), images: raw[3].map(text), further: raw[4],
      pictures: raw[5], question: text(raw[6]), reference: text(raw[7]), region: raw[8] || null, size: raw[9] || null, tier: raw[10],
      answers: raw[11].map(function (answer) {
        return {
          package: answer[0], mark: answer[1], text: text(answer[2]), parsed: text(answer[3]), score: answer[4],
          failure: text(answer[5]), box: answer[6] || null, iou: answer[7], prompt: answer[8], after: answer[9],
          generation: answer[10] || null, note: text(answer[11])
        };
      })
    };
  });
  samples.sort(function (a, b) { return a.tier - b.tier || a.order - b.order; });
  var RIGHT = 0, PARTLY = 1, WRONG = 2, UNPARSED = 3, UNSCORED = 4, FAILED = 5;

  function haystack(sample) {
    if (sample.haystack === undefined) {
      var parts = [sample.key, sample.question, sample.reference || "", sample.category || ""].concat(sample.images);
      sample.answers.forEach(function (answer) { parts.push(answer.text, answer.parsed || "", answer.failure || ""); });
      sample.haystack = parts.join("\n").toLowerCase();
    }
    return sample.haystack;
  }

  // The answers that count: all, or those of the pair that was chosen.
  function counted(sample, pair) {
    if (!pair) { return sample.answers; }
    var found = pair.map(function (index) {
      return sample.answers.filter(function (answer) { return answer.package === index; })[0];
    });
    return found[0] && found[1] ? found : null;
  }

  function outcomes(answers) {
    var has = {}, right = 0, scored = 0;
    var base = answers.length ? answers[0].score : null;
    answers.forEach(function (answer, index) {
      if (index > 0 && base !== null && answer.score !== null) {
        if (answer.score < base) { has.broken = has.differs = true; }
        if (answer.score > base) { has.fixed = has.differs = true; }
      }
      if (answer.mark === WRONG || answer.mark === PARTLY || answer.mark === UNPARSED) { has.wrong = true; }
      if (answer.mark === UNPARSED) { has.unparsed = true; }
      if (answer.mark === FAILED) { has.failed = true; }
      if (answer.mark === UNSCORED) { has.unscored = true; } else { scored += 1; }
      if (answer.mark === RIGHT) { right += 1; }
    });
    if (scored > 0 && right === scored) { has.right = true; }
    return has;
  }

  // State and address.
  function blank() { return { outcome: "", benchmark: "", category: "", pair: "", q: "", page: 1, sample: "" }; }
  function parse(hash) {
    var state = blank();
    hash.replace(/^#/, "").split("&").forEach(function (part) {
      var at = part.indexOf("="), name = part.slice(0, at), value = part.slice(at + 1);
      if (at < 0 || !Object.prototype.hasOwnProperty.call(state, name)) { return; }
      try { value = decodeURIComponent(value); } catch (error) { return; }
      state[name] = name === "page" ? Math.max(1, parseInt(value, 10) || 1) : value;
    });
    return state;
  }
  function address(state) {
    var parts = [];
    ["outcome", "benchmark", "category", "pair", "q"].forEach(function (name) {
      if (state[name] !== "") { parts.push(name + "=" + encodeURIComponent(state[name])); }
    });
    if (state.page > 1) { parts.push("page=" + state.page); }
    // The stroke between benchmark and key is kept readable.
    if (state.sample !== "") { parts.push("sample=" + encodeURIComponent(state.sample).replace(/%2F/g, "/")); }
    return "#" + (parts.length ? parts.join("&") : "samples");
  }
  function isOurs(hash) { return hash.indexOf("=") >= 0; }
  function nameOf(sample) { return data.benchmarks[sample.benchmark][0] + "/" + sample.key; }
  var state = blank();

  function go(changes, replace) {
    var next = blank();
    Object.keys(next).forEach(function (name) { next[name] = name in changes ? changes[name] : state[name]; });
    var target = address(next);
    if (target !== location.hash) {
      try {
        history[replace ? "replaceState" : "pushState"](null, "", target);
      } catch (refused) {
        // Some browsers allow this to no page from a disk; the plain way scrolls, but works.
        if (replace) { location.replace(target); } else { location.hash = target; }
      }
    }
    state = next;
    show();
  }

  // Filtering, and counting what each choice would leave.
  var shown = [], at = -1;
  function pairOf(value) {
    var found = /^(\d+)-(\d+)$/.exec(value);
    var pair = found ? [Number(found[1]), Number(found[2])] : null;
    return pair && pair[0] !== pair[1] && Math.max(pair[0], pair[1]) < data.packages.length ? pair : null;
  }
  function filter() {
    var pair = pairOf(state.pair);
    var terms = state.q.toLowerCase().split(/\s+/).filter(function (term) { return term !== ""; });
    var counts = { outcome: {}, benchmark: {}, category: {}, all: { outcome: 0, benchmark: 0, category: 0 } };
    var count = function (of, value) { of[value] = (of[value] || 0) + 1; };
    var fitting = samples.filter(function (sample) {
      var answers = counted(sample, pair);
      if (!answers) { return false; }
      if (terms.length) {
        var hay = haystack(sample);
        if (!terms.every(function (term) { return hay.indexOf(term) >= 0; })) { return false; }
      }
      var has = outcomes(answers), category = sample.category || NO_CATEGORY;
      var name = data.benchmarks[sample.benchmark][0];
      var outcome = state.outcome === "" || has[state.outcome] === true;
      var benchmark = state.benchmark === "" || state.benchmark === name;
      var inCategory = state.category === "" || state.category === category;
      if (benchmark && inCategory) { counts.all.outcome += 1; Object.keys(has).forEach(function (of) { count(counts.outcome, of); }); }
      if (outcome && inCategory) { counts.all.benchmark += 1; count(counts.benchmark, "=" + name); }
      if (outcome && benchmark) { counts.all.category += 1; count(counts.category, "=" + category); }
      sample.has = has;
      return outcome && benchmark && inCategory;
    });
    return { fitting: fitting, counts: counts };
  }

  function options(select, choices, value) {
    while (select.firstChild) { select.removeChild(select.firstChild); }
    choices.forEach(function (choice) {
      var option = document.createElement("option");
      option.value = choice[0];
      option.textContent = choice[1];
      select.appendChild(option);
    });
    select.value = value;
    if (select.selectedIndex < 0) {
      // A link may name what this page does not have: it is shown, not dropped.
      var option = document.createElement("option");
      option.value = value;
      option.textContent = short(value, 60) + " (0)";
      select.appendChild(option);
      select.value = value;
    }
  }
  function short(words, limit) { return words.length > limit ? words.slice(0, limit - 1) + "…" : words; }
  function number(value) { return value < 10000 ? String(value) : String(value).replace(/\B(?=(\d{3})+$)/g, "\u202f"); }

  var categories = null;
  function categoriesOf(benchmark) {
    if (!categories) {
      categories = {};
      samples.forEach(function (sample) {
        var name = "=" + data.benchmarks[sample.benchmark][0];
        var of = sample.category || NO_CATEGORY;
        [name, ""].forEach(function (which) {
          categories[which] = categories[which] || [];
          if (categories[which].indexOf(of) < 0 && categories[which].length < 300) { categories[which].push(of); }
        });
      });
      Object.keys(categories).forEach(function (which) { categories[which].sort(); });
    }
    return categories[benchmark === "" ? "" : "=" + benchmark] || [];
  }

  function fillFilters(counts) {
    var withCount = function (label, count) { return label + " (" + number(count || 0) + ")"; };
    options(selects.outcome, [["", withCount("all", counts.all.outcome)]].concat(OUTCOMES.map(function (of) {
      return [of[0], withCount(of[1], counts.outcome[of[0]])];
    })), state.outcome);
    options(selects.benchmark, [["", withCount("all", counts.all.benchmark)]].concat(benchmarks.map(function (index) {
      var of = data.benchmarks[index];
      return [of[0], withCount(short(of[1], 48), counts.benchmark["=" + of[0]])];
    })), state.benchmark);
    var some = categoriesOf(state.benchmark);
    options(selects.category, [["", withCount("all", counts.all.category)]].concat(some.map(function (name) {
      return [name, withCount(short(name, 48), counts.category["=" + name])];
    })), state.category);
    selects.category.parentNode.hidden = some.length < 2 && state.category === "";
    if (document.activeElement !== search) { search.value = state.q; }
    selects.pair.value = pairOf(state.pair) ? state.pair : "";
    byId("filter-clear").disabled = ["outcome", "benchmark", "category", "pair", "q"].every(function (name) { return state[name] === ""; });
  }

  // Making cards.
  function make(tag, className, words) {
    var element = document.createElement(tag);
    if (className) { element.className = className; }
    if (words !== undefined && words !== null) { element.textContent = words; }
    return element;
  }
  function told(words, tag) { return make(tag || "bdi", "", words); }
  function put(parent) {
    for (var index = 1; index < arguments.length; index += 1) {
      var child = arguments[index];
      if (child !== null && child !== undefined) { parent.appendChild(typeof child === "string" ? document.createTextNode(child) : child); }
    }
    return parent;
  }
  function svg(tag, attributes) {
    var element = document.createElementNS("http://www.w3.org/2000/svg", tag);
    Object.keys(attributes).forEach(function (name) { element.setAttribute(name, attributes[name]); });
    return element;
  }

  function letter(index) { return index < 26 ? String.fromCharCode(65 + index) : String(index + 1); }
  function dashes(index) { return ["9 4", "6 3", "2 2.5"][index % 3]; }
  function boxesOf(sample) {
    var boxes = [];
    if (sample.region) { boxes.push({ corners: sample.region, kind: "truth-line", dashes: "none", letter: "R", name: "reference" }); }
    (counted(sample, pairOf(state.pair)) || sample.answers).forEach(function (answer) {
      if (answer.box) {
        boxes.push({
          corners: answer.box, kind: "k" + answer.package % 6, dashes: dashes(answer.package), letter: letter(answer.package),
          name: data.packages[answer.package]
        });
      }
    });
    return boxes;
  }

  // Boxes are in pixels of the original image, and so is the view box. Their letters are as large as text, however much the
  // image is scaled.
  function drawing(sample, index, across) {
    var picture = sample.pictures.length > index ? sample.pictures[index] : -1;
    var size = picture >= 0 ? data.images[picture] : sample.size;
    var width = size[0], height = size[1];
    var image = svg("svg", { viewBox: "0 0 " + width + " " + height, "aria-hidden": "true", focusable: "false" });
    if (picture >= 0) { image.appendChild(svg("use", { href: "#image-" + picture })); }
    var boxes = index === 0 ? boxesOf(sample) : [];
    var unit = Math.max(width / across, height / across);
    boxes.forEach(function (box, place) {
      var clamp = function (value, limit) { return Math.min(Math.max(value, 0), limit); };
      var x1 = clamp(Math.min(box.corners[0], box.corners[2]), width), x2 = clamp(Math.max(box.corners[0], box.corners[2]), width);
      var y1 = clamp(Math.min(box.corners[1], box.corners[3]), height), y2 = clamp(Math.max(box.corners[1], box.corners[3]), height);
      var at = { x: x1, y: y1, width: x2 - x1, height: y2 - y1 };
      image.appendChild(svg("rect", Object.assign({ "class": "box box-under" }, at)));
      image.appendChild(svg("rect", Object.assign({ "class": "box " + box.kind, "stroke-dasharray": box.dashes }, at)));
      // The letters of several boxes stand side by side along the upper edge.
      var side = 14 * unit, left = clamp(x1 + place * (side + unit), width - side), top = clamp(y1 - side, height - side);
      image.appendChild(svg("rect", { "class": "flag " + box.kind, x: left, y: top, width: side, height: side, rx: 2 * unit }));
      var word = svg("text", { "class": "flag-letter", x: left + side / 2, y: top + side * 0.78, "font-size": 11 * unit });
      word.textContent = box.letter;
      image.appendChild(word);
    });
    return image;
  }
  function legend(sample) {
    var boxes = boxesOf(sample);
    if (!boxes.length) { return null; }
    var ul = make("ul", "legend");
    ul.setAttribute("aria-label", "Boxes");
    boxes.forEach(function (box) {
      var line = svg("svg", { width: 22, height: 8, viewBox: "0 0 22 8", "aria-hidden": "true" });
      line.appendChild(svg("line", { "class": box.kind, x1: 0, y1: 4, x2: 22, y2: 4, "stroke-width": 2.5, "stroke-dasharray": box.dashes }));
      ul.appendChild(put(make("li"), line, make("b", "", box.letter), told(box.name)));
    });
    return ul;
  }
  function imageName(sample, index) { return short(sample.images[index] || "", 200); }
  function figure(sample) {
    var drawn = sample.pictures.length;
    if (!drawn && !(sample.size && sample.size[0] > 0 && sample.size[1] > 0 && boxesOf(sample).length)) { return null; }
    var element = make("figure"), row = make("div", drawn > 1 ? "several" : "");
    for (var index = 0; index < Math.max(drawn, 1); index += 1) {
      var button = make("button", "enlarge");
      button.type = "button";
      button.dataset.picture = index;
      button.setAttribute("aria-haspopup", "dialog");
      button.setAttribute("aria-label", drawn ? "Enlarge image " + imageName(sample, index) : "Enlarge the boxes on image " + imageName(sample, index) + ", which is not shown");
      row.appendChild(put(button, drawing(sample, index, drawn > 1 ? 110 : 240)));
    }
    var more = sample.further + sample.images.length - Math.max(drawn, 1);
    put(element, row, legend(sample), put(make("figcaption"), told(imageName(sample, 0)),
      more > 0 ? " and " + more + " more" : null, drawn ? null : " (not shown)"));
    return element;
  }

  // Words of an answer against those of the first: the longest common subsequence, by the usual table.
  function words(said) {
    var found = [], pattern = /\p{N}+(?:[.,]\p{N}+)+|[\p{L}\p{N}\p{M}_]+|[^\p{L}\p{N}\p{M}_\s]/gu, match;
    while ((match = pattern.exec(said)) !== null) {
      found.push({ word: match[0].toLowerCase(), from: match.index, to: match.index + match[0].length });
    }
    return found;
  }
  // Parts in order: `same`, `more` (only in the answer) and `less` (only in the first). Null where they are too long.
  function difference(base, other) {
    var before = words(base), after = words(other), n = before.length, m = after.length;
    if (n * m > 250000) { return null; }
    var table = [];
    for (var i = n; i >= 0; i -= 1) {
      table[i] = new Uint16Array(m + 1);
      for (var j = m - 1; j >= 0 && i < n; j -= 1) {
        table[i][j] = before[i].word === after[j].word ? table[i + 1][j + 1] + 1 : Math.max(table[i + 1][j], table[i][j + 1]);
      }
    }
    var runs = [], x = 0, y = 0;
    while (x < n || y < m) {
      var kind = x < n && y < m && before[x].word === after[y].word ? "same" :
        x < n && (y >= m || table[x + 1][y] >= table[x][y + 1]) ? "less" : "more";
      var at = kind === "less" ? before[x] : after[y], last = runs[runs.length - 1];
      if (last && last.kind === kind) { last.to = at.to; } else { runs.push({ kind: kind, from: at.from, to: at.to }); }
      if (kind !== "more") { x += 1; }
      if (kind !== "less") { y += 1; }
    }
    // The answer whole, with its blanks; and what it lacks where that is little and is in words.
    var parts = [], end = 0, similar = 2 * table[0][0] >= Math.max(n, m);
    runs.forEach(function (run) {
      if (run.kind === "less") {
        var gone = base.slice(run.from, run.to);
        if (similar && /[\p{L}\p{N}]/u.test(gone)) { parts.push({ kind: "less", words: gone, at: end }); }
        return;
      }
      if (run.from > end) { parts.push({ kind: "same", words: other.slice(end, run.from) }); }
      parts.push({ kind: run.kind, words: other.slice(run.from, run.to) });
      end = run.to;
    });
    parts.push({ kind: "same", words: other.slice(end) });
    // What is struck stands next to what stands for it, after the blank.
    parts.forEach(function (part, index) {
      var next = parts[index + 1];
      if (part.kind === "less" && next && next.kind === "same" && /^\s+$/.test(next.words)) { parts[index] = next; parts[index + 1] = part; }
    });
    return { parts: parts, common: table[0][0] };
  }
  function saying(answer, base) {
    var cell = make("td", "said");
    if (answer.failure !== null) {
      cell.appendChild(put(make("span", "quiet"), told(answer.failure)));
    } else if (answer.text.trim() === "") {
      cell.appendChild(make("span", "quiet", "(empty answer)"));
    } else {
      var bdi = make("bdi");
      var compared = base && base !== answer && base.failure === null && base.text.trim() !== "" ? difference(base.text, answer.text) : null;
      if (!compared) {
        bdi.textContent = answer.text;
      } else if (compared.common === 0) {
        put(bdi, make("mark", "other", answer.text));
      } else {
        compared.parts.forEach(function (part) {
          if (part.kind === "same") { put(bdi, part.words); } else { put(bdi, make(part.kind === "more" ? "mark" : "del", "", part.words)); }
        });
      }
      cell.appendChild(bdi);
    }
    if (answer.parsed !== null) {
      cell.appendChild(put(make("span", "parsed"), "understood as ", told(answer.parsed)));
    }
    if (answer.iou !== null) { cell.appendChild(make("span", "parsed", "IoU " + answer.iou.toFixed(2))); }
    return cell;
  }
  function answersTable(sample, answers) {
    var body = make("tbody");
    answers.forEach(function (answer) {
      var mark = data.marks[answer.mark];
      var partly = answer.mark === PARTLY && answer.score !== null ? " " + (answer.score < 0.01 ? Number(answer.score.toPrecision(1)) : answer.score.toFixed(2)) : "";
      var name = make("th");
      name.scope = "row";
      body.appendChild(put(make("tr"), put(name, told(data.packages[answer.package])),
        make("td", "mark " + mark[2], mark[0] + " " + mark[1] + partly), saying(answer, answers[0])));
    });
    return put(make("table", "answers"), body);
  }

  function milliseconds(value) { return value === null || value === undefined ? "–" : value + " ms"; }
  function facts(answer) {
    var parts = [], of = answer.generation;
    if (of) {
      var stop = text(of[2]);
      parts.push(of[0] + (of[0] === 1 ? " token" : " tokens") + (stop ? ", stopped by " + stop : ""));
      parts.push("prompt of " + number(of[3]) + " tokens");
      if (of[4] !== null) { parts.push("log-probability " + String(of[4]).replace("-", "−")); }
      parts.push("first token after " + milliseconds(of[5]) + (of[6] === null ? "" : ", each further one " + milliseconds(of[6])));
      if (of[7] >= 0) {
        var times = text(of[7]).split("/"), names = ["image", "vision", "projector", "prefill", "decode"];
        parts.push("image group of " + times[5] + (times[5] === "1" ? " question: " : " questions: ") +
          names.map(function (name, index) { return name + " " + times[index]; }).join(", ") + " ms");
      }
      if (of[1].length) { parts.push("token ids " + of[1].join(" ") + (of[0] > of[1].length ? " …" : "")); }
    }
    if (answer.score !== null) { parts.push("score " + Number(answer.score.toFixed(3))); }
    if (answer.note !== null) { parts.push(answer.note); }
    return parts.join("; ");
  }
  function more(sample, answers) {
    var some = answers.filter(function (answer) { return answer.prompt >= 0 || answer.generation || answer.note !== null; });
    if (!some.length) { return null; }
    var list = make("dl"), prompts = [];
    some.forEach(function (answer) {
      if (answer.prompt < 0) { return; }
      var prompt = answer.after < 0 ? text(answer.prompt) : text(answer.prompt) + sample.question + text(answer.after);
      var known = prompts.filter(function (other) { return other.prompt === prompt; })[0];
      if (known) { known.packages.push(data.packages[answer.package]); } else { prompts.push({ prompt: prompt, packages: [data.packages[answer.package]] }); }
    });
    prompts.forEach(function (of) {
      var title = put(make("dt"), "Prompt", prompts.length > 1 ? " of " : null, prompts.length > 1 ? told(of.packages.join(", ")) : null);
      list.appendChild(put(make("div"), title, put(make("dd"), put(make("code"), told(of.prompt)))));
    });
    some.forEach(function (answer) {
      var said = facts(answer);
      if (said !== "") { list.appendChild(put(make("div"), put(make("dt"), told(data.packages[answer.package])), put(make("dd"), told(said)))); }
    });
    return put(make("details"), make("summary", "", "Prompt, tokens and timings"), list);
  }

  function card(sample, index) {
    var answers = counted(sample, pairOf(state.pair)) || sample.answers;
    var picture = figure(sample), element = make("article", picture ? "sample" : "sample bare");
    element.tabIndex = -1;
    element.dataset.index = index;
    var by = make("p", "by"), link = make("a", "key");
    if (sample.has.broken) { put(by, make("span", "tag bad", "▼ broken"), " "); }
    if (sample.has.fixed) { put(by, make("span", "tag good", "▲ fixed"), " "); }
    link.href = address(Object.assign(blank(), { sample: nameOf(sample) }));
    link.title = "Link to this sample";
    put(link, told(short(sample.key, 120)));
    put(by, told(data.benchmarks[sample.benchmark][1]), " · ");
    if (sample.category) { put(by, told(short(sample.category, 120)), " · "); }
    put(by, link);
    var title = put(make("h3"), told(sample.question));
    title.id = "sample-title-" + index;
    element.setAttribute("aria-labelledby", title.id);
    var truth = sample.reference === null ? null : put(make("p", "truth"), make("span", "quiet", "Reference: "), told(sample.reference));
    var table = make("div", "scroll");
    put(table, answersTable(sample, answers));
    return put(element, picture, put(make("div", "told"), by, title, truth, table, more(sample, answers)));
  }

  // Showing.
  var drawnFor = null, unknown = "";
  function show() {
    var result = filter(), wanted = null;
    unknown = "";
    if (state.sample !== "") {
      wanted = samples.filter(function (sample) { return nameOf(sample) === state.sample; })[0] || null;
      if (!wanted) {
        if (leave(state.sample)) { return; }
        unknown = "There is no sample " + short(state.sample, 120) + " here. ";
      } else if (result.fitting.indexOf(wanted) < 0) {
        // The link is to a sample; filters that hide it give way.
        var only = state.sample;
        state = blank();
        state.sample = only;
        result = filter();
      }
    }
    shown = result.fitting;
    var pages = Math.max(1, Math.ceil(shown.length / PER_PAGE));
    state.page = Math.min(state.page, pages);
    if (wanted) { state.page = Math.floor(shown.indexOf(wanted) / PER_PAGE) + 1; }
    fillFilters(result.counts);
    var first = (state.page - 1) * PER_PAGE, some = shown.slice(first, first + PER_PAGE);
    var signature = state.pair + " " + some.map(function (sample) { return sample.order; }).join(" ");
    if (signature !== drawnFor) {
      drawnFor = signature;
      while (list.firstChild) { list.removeChild(list.firstChild); }
      some.forEach(function (sample, index) { list.appendChild(card(sample, first + index)); });
      at = -1;
    }
    say(first, some.length, pages);
    if (wanted) { open(shown.indexOf(wanted), true); }
  }
  function say(first, count, pages) {
    var words = unknown, all = shown.length === samples.length;
    var noun = function (count) { return number(count) + (count === 1 ? " sample" : " samples"); };
    if (shown.length === 0) { words += "No sample fits"; }
    else { words += all ? noun(shown.length) : number(shown.length) + " of " + noun(samples.length) + (shown.length === 1 ? " fits" : " fit"); }
    if (data.pages > 1) { words += " on this page (page " + data.page + " of " + data.pages + ")"; }
    if (pages > 1) { words += ", " + number(first + 1) + " to " + number(first + count) + " are shown"; }
    words += ".";
    said.textContent = words;
    while (pager.firstChild) { pager.removeChild(pager.firstChild); }
    pager.hidden = pages === 1;
    if (pages > 1) {
      [["‹ Previous", state.page - 1], ["Next ›", state.page + 1]].forEach(function (step, index) {
        var button = make("button", "", step[0]);
        button.type = "button";
        button.disabled = step[1] < 1 || step[1] > pages;
        button.addEventListener("click", function () { turn(step[1], 0); });
        put(pager, button);
        if (index === 0) { put(pager, make("span", "", "List " + number(state.page) + " of " + number(pages))); }
      });
    }
    Array.prototype.forEach.call(document.querySelectorAll("a.other-page"), function (link) {
      link.href = link.getAttribute("href").replace(/#.*$/, "") + address(Object.assign({}, state, { page: 1, sample: "" }));
    });
  }
  // A sample on another page of the report.
  function leave(name) {
    var file = null;
    if (data.page !== 1) { file = "index.html"; }
    Object.keys(data.elsewhere || {}).forEach(function (page) {
      if (data.elsewhere[page].some(function (of) { return data.benchmarks[of[0]][0] + "/" + of[1] === name; })) { file = "samples-" + Number(page) + ".html"; }
    });
    if (file === null) { return false; }
    location.replace(file + address(Object.assign(blank(), { sample: name })));
    return true;
  }

  function cardAt(index) { return list.querySelector('article[data-index="' + index + '"]'); }
  function focus(index) {
    var element = cardAt(index);
    if (!element) { return; }
    at = index;
    Array.prototype.forEach.call(list.querySelectorAll(".current"), function (other) { other.classList.remove("current"); });
    element.classList.add("current");
    element.focus({ preventScroll: true });
    element.scrollIntoView({ block: "start" });
  }
  function open(index, opened) {
    focus(index);
    var element = cardAt(index), details = element && element.querySelector("details");
    if (details) { details.open = opened; }
  }
  function turn(page, offset) {
    go({ page: page, sample: "" });
    var first = (state.page - 1) * PER_PAGE;
    focus(offset < 0 ? Math.min(first + PER_PAGE, shown.length) - 1 : first);
  }
  function step(by) {
    var first = (state.page - 1) * PER_PAGE, next = at < 0 ? first : at + by;
    if (next < 0 || next >= shown.length) { return; }
    if (next < first) { turn(state.page - 1, -1); } else if (next >= first + PER_PAGE) { turn(state.page + 1, 0); } else { focus(next); }
  }

  var opener = null;
  function enlarge(index, picture) {
    var sample = shown[index];
    if (!sample || !(sample.pictures.length || sample.size)) { return; }
    var body = byId("zoom-body");
    while (body.firstChild) { body.removeChild(body.firstChild); }
    put(body, drawing(sample, picture, 640), picture === 0 ? legend(sample) : null, put(make("p", "note"), told(sample.question)));
    byId("zoom-title").textContent = imageName(sample, picture);
    opener = document.activeElement;
    zoom.showModal();
  }
  zoom.addEventListener("close", function () { if (opener) { opener.focus({ preventScroll: true }); } });
  [zoom, keys].forEach(function (dialog) {
    // A click beside the dialog closes it.
    dialog.addEventListener("click", function (event) { if (event.target === dialog) { dialog.close(); } });
  });
  byId("keys-open").addEventListener("click", function () { keys.showModal(); });

  list.addEventListener("click", function (event) {
    var button = event.target.closest("button.enlarge");
    if (button) { enlarge(Number(button.closest("article").dataset.index), Number(button.dataset.picture)); }
  });
  list.addEventListener("focusin", function (event) {
    var element = event.target.closest("article");
    if (element) { at = Number(element.dataset.index); }
  });

  var waiting = null;
  search.addEventListener("input", function () {
    clearTimeout(waiting);
    waiting = setTimeout(function () { go({ q: search.value, page: 1, sample: "" }, true); }, 120);
  });
  Object.keys(selects).forEach(function (name) {
    selects[name].addEventListener("change", function () {
      var changes = { page: 1, sample: "" };
      changes[name] = selects[name].value;
      if (name === "benchmark") { changes.category = ""; }
      go(changes);
    });
  });
  byId("filter-clear").addEventListener("click", function () {
    search.value = "";
    go(blank());
    search.focus();
  });

  function inSight() {
    var box = byId("samples").getBoundingClientRect();
    return box.top < window.innerHeight && box.bottom > 0;
  }
  document.addEventListener("keydown", function (event) {
    if (event.ctrlKey || event.altKey || event.metaKey || event.isComposing || zoom.open || keys.open) { return; }
    var target = event.target, typing = /^(INPUT|SELECT|TEXTAREA)$/.test(target.tagName);
    var onCard = target.tagName === "ARTICLE" && list.contains(target);
    if (typing) {
      if (event.key === "Escape" && target === search) {
        event.preventDefault();
        if (search.value !== "") { clearTimeout(waiting); search.value = ""; go({ q: "", page: 1, sample: "" }, true); } else { search.blur(); }
      } else if (event.key === "Enter" && target === search) {
        event.preventDefault();
        clearTimeout(waiting);
        go({ q: search.value, page: 1, sample: "" }, true);
        if (shown.length) { focus((state.page - 1) * PER_PAGE); }
      }
      return;
    }
    var done = true;
    if (event.key === "/") { search.focus(); search.select(); bar.scrollIntoView({ block: "start" }); }
    else if (event.key === "j" || (event.key === "ArrowDown" && onCard)) { step(1); }
    else if (event.key === "k" || (event.key === "ArrowUp" && onCard)) { step(-1); }
    else if ((event.key === "n" || event.key === "p") && inSight()) {
      var page = state.page + (event.key === "n" ? 1 : -1);
      if (page >= 1 && (page - 1) * PER_PAGE < shown.length) { turn(page, 0); }
    }
    else if (event.key === "?") { keys.showModal(); }
    else if (event.key === "z" && at >= 0) { enlarge(at, 0); }
    else if (event.key === "Enter" && onCard) {
      var details = target.querySelector("details"), opened = !(details && details.open);
      if (opened) { go({ sample: nameOf(shown[at]) }); } else { details.open = false; }
    }
    else if (event.key === "Escape" && (onCard || at >= 0)) {
      if (state.sample !== "") { go({ sample: "" }, true); }
      if (document.activeElement && list.contains(document.activeElement)) { document.activeElement.blur(); }
      Array.prototype.forEach.call(list.querySelectorAll(".current"), function (other) { other.classList.remove("current"); });
      at = -1;
    }
    else { done = false; }
    if (done) { event.preventDefault(); }
  });

  function follow() {
    // The addresses of other sections are not ours; coming back to "#samples" or to nothing is.
    if (isOurs(location.hash) || location.hash === "" || location.hash === "#samples") {
      state = parse(location.hash);
      show();
    }
  }
  window.addEventListener("popstate", follow);
  window.addEventListener("hashchange", follow);

  // First showing.
  var seen = {};
  samples.forEach(function (sample) { seen[sample.benchmark] = true; });
  var benchmarks = data.benchmarks.map(function (_, index) { return index; }).filter(function (index) { return seen[index]; });
  selects.benchmark.parentNode.hidden = benchmarks.length < 2;
  var pairs = [["", "all"]];
  data.packages.forEach(function (base, first) {
    data.packages.forEach(function (other, second) {
      // With many packages, only those against the first.
      if (second > first && (first === 0 || data.packages.length <= 8)) { pairs.push([first + "-" + second, short(base, 32) + " → " + short(other, 32)]); }
    });
  });
  selects.pair.parentNode.hidden = data.packages.length < 3;
  options(selects.pair, pairs, "");
  if (isOurs(location.hash)) { state = parse(location.hash); }
  bar.hidden = false;
  show();
})();
