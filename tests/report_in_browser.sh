#!/usr/bin/env bash
# Opens a report in headless Chromium and fails if it reports anything on the console, asks for anything over a network,
# lets injected markup act, or is wider than a phone.
#
#   tests/report_in_browser.sh INDEX_HTML [FOLDER]
#
# Leaves wide.png (1280 px), narrow.png (390 px) and dark.png (1280 px, dark colours) in FOLDER (default: beside the page).
# SCREENSHOTS=0 only checks. Exit code 77: no Chromium on this machine.
set -euo pipefail

page=$(realpath "$1")
folder=$(realpath -m "${2:-$(dirname "$page")}")
mkdir -p "$folder"

chromium=""
for name in ${CHROMIUM:-} chromium chromium-browser google-chrome google-chrome-stable; do
    if command -v "$name" >/dev/null 2>&1; then chromium=$name; break; fi
done
if [ -z "$chromium" ]; then echo "no Chromium found (set CHROMIUM)"; exit 77; fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

browse() { # browse NAME ARGUMENT...
    local name=$1; shift
    # Every host name fails to resolve: a request that was tried stands in the network log all the same.
    timeout "${TIMEOUT_S:-300}" "$chromium" --headless --no-sandbox --disable-gpu --no-first-run --disable-background-networking \
        --disable-component-update --disable-sync --disable-default-apps --disable-extensions --hide-scrollbars \
        --host-resolver-rules="MAP * ~NOTFOUND" --user-data-dir="$work/profile-$name" --enable-logging=stderr --v=0 \
        --log-net-log="$work/$name.net.json" --net-log-capture-mode=Default --virtual-time-budget=4000 "$@" 2>"$work/$name.err"
}

fail() { echo "FAILED: $1" >&2; [ -z "${2:-}" ] || printf '%s\n' "$2" >&2; exit 1; }

check_log() { # check_log NAME
    local console requests
    console=$(grep -a 'CONSOLE' "$work/$1.err" || true)
    [ -z "$console" ] || fail "the page wrote to the console" "$console"
    [ -s "$work/$1.net.json" ] || fail "Chromium left no network log"
    # The browser's own housekeeping may try its maker's hosts; the page itself may ask for nothing at all.
    requests=$(grep -aoE '"url":"(https?|wss?|ftp)://[^"]*"' "$work/$1.net.json" | sort -u \
        | grep -avE '"url":"https?://([a-z0-9.-]+\.)?(google|googleapis|gstatic|gvt1)\.com(:[0-9]+)?/' || true)
    [ -z "$requests" ] || fail "the page asked for something over the network" "$requests"
}

# 1. The page itself: its DOM after its script ran.
browse page --window-size=1280,900 --dump-dom "file://$page" >"$work/dom.html" || fail "Chromium did not open the page" "$(tail -3 "$work/page.err")"
check_log page
grep -q '</html>' "$work/dom.html" || fail "the page was not rendered"
grep -aoE '<html[^>]*>' "$work/dom.html" | head -1 | grep -q 'data-pwned' && fail "injected markup acted"
if grep -q 'id="filters"' "$work/dom.html" && grep -qE '<div [^>]*id="filters"[^>]* hidden' "$work/dom.html"; then
    fail "the page's own script did not run"
fi

# 2. In a frame of a phone's and a desk's width, measured from outside (the page's policy admits no foreign script).
for width in 390 1280; do
    cat >"$work/frame-$width.html" <<HTML
<!doctype html><html><head><link rel="icon" href="data:,"></head><body style="margin:0">
<iframe id="f" src="file://$page" style="width:${width}px;height:${FRAME_HEIGHT:-9000}px;border:0;display:block"></iframe>
<script>document.getElementById("f").onload = function () {
  var d = this.contentDocument.documentElement;
  document.body.dataset.width = d.scrollWidth; document.body.dataset.height = d.scrollHeight;
  var wide = [], all = d.querySelectorAll("body *");
  for (var i = 0; i < all.length && wide.length < 5; i++) {
    if (all[i].getBoundingClientRect().right > ${width} && !all[i].closest(".scroll > *")) {
      var at = all[i], path = [];
      for (; at && at !== d; at = at.parentElement) { path.unshift(at.tagName.toLowerCase()); }
      wide.push(path.join(" ") + ": " + all[i].textContent.slice(0, 40).replace(/[^a-z ]/gi, ""));
    }
  }
  document.body.dataset.wide = wide.join("; ");
};</script></body></html>
HTML
    browse "frame-$width" --allow-file-access-from-files --window-size=1400,900 --dump-dom "file://$work/frame-$width.html" >"$work/frame-$width.dom"
    check_log "frame-$width"
    measured=$(grep -oE 'data-width="[0-9]+"' "$work/frame-$width.dom" | grep -oE '[0-9]+' || true)
    [ -n "$measured" ] || fail "the page could not be measured at $width px"
    [ "$measured" -le "$width" ] || fail "the page is $measured px wide in a window of $width px" \
        "$(grep -oE 'data-wide="[^"]*"' "$work/frame-$width.dom")"
    height=$(grep -oE 'data-height="[0-9]+"' "$work/frame-$width.dom" | grep -oE '[0-9]+')
    if [ "${SCREENSHOTS:-1}" = 1 ]; then
        [ "$height" -le 16000 ] || height=16000
        name=wide; [ "$width" = 1280 ] || name=narrow
        FRAME_HEIGHT=$height
        sed -i -E "s/height:[0-9]+px/height:${height}px/" "$work/frame-$width.html"
        browse "$name" --allow-file-access-from-files --window-size="$width,$height" --screenshot="$folder/$name.png" "file://$work/frame-$width.html" >/dev/null
        check_log "$name"
        if [ "$name" = wide ]; then
            browse dark --force-dark-mode --enable-features=WebContentsForceDarkDisabled --blink-settings=preferredColorScheme=0 \
                --window-size="$width,$height" --screenshot="$folder/dark.png" "file://$page" >/dev/null
            check_log dark
        fi
    fi
done
# 3. The filters, if the page has any: what they leave is of the kind asked for, and in sight.
if [ "${SCREENSHOTS:-1}" = 1 ] && grep -q 'id="filter-kind"' "$page"; then
    cat >"$work/filter.html" <<HTML
<!doctype html><html><head><link rel="icon" href="data:,"></head><body>
<iframe id="f" src="file://$page" style="width:1280px;height:900px"></iframe>
<script>document.getElementById("f").onload = function () {
  var d = this.contentDocument, kind = d.getElementById("filter-kind"), said = [];
  Array.prototype.forEach.call(kind.options, function (option) {
    kind.value = option.value; kind.dispatchEvent(new Event("change"));
    var cards = Array.prototype.slice.call(d.querySelectorAll(".card"));
    cards.forEach(function (card) {
      var fits = option.value === "" || card.dataset.kinds.split(" ").indexOf(option.value) >= 0;
      var folded = card.closest("details.rest") && !card.closest("details.rest").open;
      if (fits !== !card.hidden || (option.value !== "" && fits && folded)) { said.push(option.value); }
    });
  });
  document.body.dataset.filters = said.length ? "wrong: " + said.join(" ") : "right";
};</script></body></html>
HTML
    browse filter --allow-file-access-from-files --window-size=1400,900 --dump-dom "file://$work/filter.html" >"$work/filter.dom"
    check_log filter
    grep -q 'data-filters="right"' "$work/filter.dom" || fail "the filters do not filter" "$(grep -o 'data-filters="[^"]*"' "$work/filter.dom")"
fi
echo "ok: nothing on the console, no request, $(wc -c <"$page") bytes"
