'use strict';
// Everything that a run says is put in as text.
(() => {
  const byId = (id) => document.getElementById(id);
  const make = (tag, className, text) => {
    const element = document.createElement(tag);
    if (className) element.className = className;
    if (text !== undefined) element.textContent = text;
    return element;
  };
  const own = (tag, className, text) => {
    const outer = make(tag, className);
    outer.append(make('bdi', '', text));
    return outer;
  };
  const set = (element, text) => { if (element.textContent !== text) element.textContent = text; };
  const number = (value, digits) => value.toFixed(digits).replace('-', '\u2212');
  const duration = (seconds) => {
    if (seconds < 90) return `${Math.round(seconds)} s`;
    const minutes = Math.round(seconds / 60);
    return minutes < 90 ? `${minutes} min` : `${Math.floor(minutes / 60)} h ${minutes % 60} min`;
  };
  const metricText = (metric) => {
    if (!metric) return '\u2013';
    const digits = metric.percent ? 1 : 3;
    const unit = metric.percent ? '\u00a0%' : '';
    const value = `${number(metric.value, digits)}${unit}`;
    return metric.interval ? `${value} (${number(metric.interval[0], digits)} to ${number(metric.interval[1], digits)})` : value;
  };
  const facts = ['recorded', 'failed', 'metric', 'pace', 'eta', 'last'];
  const names = { recorded: 'recorded', failed: 'failed', metric: 'score', pace: 'questions a second', eta: 'time left', last: 'last record' };
  const cards = new Map();

  const build = (run) => {
    const card = { root: make('article', 'run'), fields: {}, names: {} };
    card.title = card.root.appendChild(make('h2'));
    card.by = card.root.appendChild(make('p', 'by'));
    const bar = card.root.appendChild(make('div', 'bar'));
    bar.setAttribute('role', 'progressbar');
    bar.setAttribute('aria-valuemin', '0');
    card.bar = bar;
    card.fill = bar.appendChild(make('div'));
    const list = card.root.appendChild(make('dl', 'facts'));
    for (const fact of facts) {
      const cell = list.appendChild(make('div'));
      card.names[fact] = cell.appendChild(make('dt', '', names[fact]));
      card.fields[fact] = cell.appendChild(make('dd'));
    }
    card.stages = card.root.appendChild(make('div', 'stages'));
    card.stages.setAttribute('aria-hidden', 'true');
    card.legend = card.root.appendChild(make('ul', 'legend'));
    card.legend.setAttribute('aria-label', 'Share of time by stage');
    const details = card.root.appendChild(make('details'));
    details.open = !run.complete;
    details.append(make('summary', '', 'Latest answers'));
    card.latest = details.appendChild(make('ul', 'latest'));
    byId('runs').append(card.root);
    return card;
  };

  const answer = (item) => {
    const row = make('li');
    const head = row.appendChild(make('div'));
    let mark = ['\u2013 no score', 'muted'];
    if (item.failure !== null) mark = ['\u2717 failed', 'bad'];
    else if (item.score !== null) {
      if (item.score >= 0.9995) mark = ['\u2713 right', 'good'];
      else if (item.score <= 0.0005) mark = ['\u2717 wrong', 'bad'];
      else mark = [`\u25d0 ${number(item.score, 2)}`, 'muted'];
    }
    head.append(make('span', `mark ${mark[1]}`, mark[0]), own('span', '', item.question));
    row.append(own('div', 'said', item.failure !== null ? item.failure : item.answer));
    if (item.parsed !== null && item.parsed !== item.answer) {
      const parsed = row.appendChild(make('div', 'muted', 'read as '));
      parsed.append(make('bdi', '', item.parsed));
    }
    return row;
  };

  const show = (card, run) => {
    set(card.title, `${run.package} \u00b7 ${run.title || run.benchmark}`);
    const labels = [run.directory, `started ${run.started}`];
    if (run.tag !== null) labels.push(`tag ${run.tag}`);
    if (run.commit !== null) labels.push(`commit ${run.commit.slice(0, 12)}`);
    if (run.damaged_lines > 0) labels.push(`${run.damaged_lines} damaged lines`);
    if (run.problem !== null) labels.push(run.problem);
    set(card.by, labels.join(', '));
    const share = run.planned > 0 ? Math.min(1, run.recorded / run.planned) : 0;
    card.fill.style.width = `${100 * share}%`;
    card.bar.setAttribute('aria-valuemax', String(run.planned));
    card.bar.setAttribute('aria-valuenow', String(run.recorded));
    card.bar.setAttribute('aria-label', 'Recorded');
    const { fields } = card;
    set(fields.recorded, `${run.recorded} of ${run.planned}`);
    set(fields.failed, String(run.failed));
    fields.failed.className = run.failed > 0 ? 'bad' : '';
    set(card.names.metric, run.metric ? `${run.metric.name}${run.metric.interval ? ', 95\u00a0% interval' : ''}` : 'score');
    set(fields.metric, metricText(run.metric));
    set(fields.pace, run.complete || run.questions_per_second === null ? '\u2013' : number(run.questions_per_second, 1));
    let left = '\u2013';
    if (run.complete) left = 'complete';
    else if (run.eta_seconds !== null) left = duration(run.eta_seconds);
    else if (run.seconds_since_last_record > 60) left = 'no new record: stopped?';
    set(fields.eta, left);
    set(fields.last, run.recorded === 0 || run.seconds_since_last_record === null ? '\u2013' : `${duration(run.seconds_since_last_record)} ago`);
    while (card.stages.children.length < run.stages.length) {
      const index = card.stages.children.length;
      card.stages.append(make('div', `s${index}`));
      const entry = card.legend.appendChild(make('li'));
      entry.append(make('i', `s${index}`), make('span'));
    }
    run.stages.forEach((stage, index) => {
      card.stages.children[index].style.width = `${100 * stage.share}%`;
      set(card.legend.children[index].lastChild, `${stage.name} ${Math.round(100 * stage.share)}\u00a0%`);
    });
    const newest = JSON.stringify(run.latest);
    if (newest !== card.newest) {
      card.newest = newest;
      card.latest.replaceChildren(...run.latest.map(answer));
    }
  };

  const look = async () => {
    let wait = 5000;
    try {
      const response = await fetch('status.json', { cache: 'no-store', credentials: 'omit' });
      if (!response.ok) throw new Error(String(response.status));
      const status = await response.json();
      wait = status.finished ? 5000 : 1500;
      let text = 'Waiting for a run \u2026';
      if (status.runs.length > 0) {
        const share = status.planned > 0 ? Math.floor(100 * status.recorded / status.planned) : 0;
        const count = status.runs.length === 1 ? '1 run' : `${status.runs.length} runs`;
        text = status.finished ? `All complete: ${count}, ${status.recorded} questions` : `${status.recorded} of ${status.planned} questions, ${share}\u00a0%, ${count}`;
        if (!status.finished && status.eta_seconds !== null) text += `, about ${duration(status.eta_seconds)} left`;
        if (status.failed > 0) text += `, ${status.failed} failed`;
        byId('whole-bar').hidden = false;
        byId('whole-bar').firstChild.style.width = `${status.planned > 0 ? 100 * status.recorded / status.planned : 0}%`;
        document.title = status.finished ? 'complete \u00b7 llava-gauge' : `${share} % \u00b7 llava-gauge`;
      }
      set(byId('state'), text);
      byId('report').textContent = status.finished ? 'Report' : 'Report of what is recorded so far';
      byId('notes').replaceChildren(...status.notes.map((note) => own('li', '', note)));
      const seen = new Set();
      for (const run of status.runs) {
        seen.add(run.directory);
        if (!cards.has(run.directory)) cards.set(run.directory, build(run));
        show(cards.get(run.directory), run);
      }
      for (const [directory, card] of cards) {
        if (!seen.has(directory)) {
          card.root.remove();
          cards.delete(directory);
        }
      }
      // What is being made stands first.
      const order = status.runs.map((run) => cards.get(run.directory).root);
      const main = byId('runs');
      order.forEach((root, index) => { if (main.children[index] !== root) main.insertBefore(root, main.children[index] || null); });
    } catch (error) {
      set(byId('state'), 'No answer: the server has ended or cannot be reached. Trying again \u2026');
    }
    setTimeout(look, wait);
  };
  look();
})();
