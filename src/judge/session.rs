//! Asks about many answers: several threads, one pace, retries, the log and the cache.

use std::collections::{BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use serde_json::json;

use super::cache::ReplyCache;
use super::error::{JudgeError, Refusal};
use super::log::{ReplyLog, ReplyRecord};
use super::pace::{BackOff, Pace, sleep};
use super::prompts::{JudgeRule, Subject};
use super::reply::Reply;
use super::request::ChatRequest;
use crate::score::{SampleScore, judged, read_reply};
use crate::store::JudgeIdentity;

/// Whoever replies: an endpoint, or a model of this machine.
pub trait Responder: Sync {
    /// Name of the model, which is part of every request.
    fn model(&self) -> &str;
    /// Where it is: an endpoint without its secrets, or `local`.
    fn place(&self) -> &str;
    /// One try at one reply.
    fn respond(&self, request: &ChatRequest) -> Result<Reply, Refusal>;
}

/// Prices per million tokens.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Prices {
    /// Of prompts.
    pub prompt: f64,
    /// Of replies.
    pub reply: f64,
}

/// How a session asks.
#[derive(Clone, Copy, Debug)]
pub struct SessionSettings {
    /// Most requests at the same time.
    pub parallel: usize,
    /// Most requests in a minute; `None` is no limit.
    pub requests_per_minute: Option<f64>,
    /// Tries for each reply, the first one included.
    pub tries: u32,
    /// Wait after the first try; each later one doubles.
    pub first_wait: Duration,
    /// Longest wait between tries that the endpoint has not asked for.
    pub longest_wait: Duration,
    /// Longest wait that the endpoint may ask for.
    pub longest_pause: Duration,
    /// Prices, if the cost is wanted.
    pub prices: Option<Prices>,
    /// Ask again about answers whose stored reply could not be read.
    pub unread_again: bool,
    /// Ask again about every answer, whatever is stored.
    pub all_again: bool,
    /// The time of day, RFC 3339 in UTC, for the log.
    pub now: fn() -> String,
}

/// What became of an answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It has a score.
    Scored(SampleScore),
    /// No reply about it could be read; it has no score, and is in no mean.
    Unread {
        /// The last reply.
        reply: String,
    },
    /// There is no reply.
    Failed {
        /// Why not.
        reason: String,
    },
}

/// What a session gives.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// In the order of the answers; `None` for those that an interruption left out.
    pub outcomes: Vec<Option<Outcome>>,
    /// Who judged, with all counts.
    pub identity: JudgeIdentity,
    /// Replies that were asked for now, neither stored nor cached.
    pub asked: usize,
}

impl Judged {
    /// Whether every answer has an outcome.
    pub fn is_complete(&self) -> bool {
        self.outcomes.iter().all(Option::is_some)
    }
}

/// Told after each answer, from several threads.
pub trait Progress: Sync {
    /// So many answers of so many are dealt with.
    fn update(&self, done: usize, total: usize);
}

/// Answers in a row without a reply after which the endpoint counts as gone.
const FAILURES_IN_A_ROW: usize = 5;

/// Longest part of a reply that is kept with a score; the log has all of it.
const KEPT_CHARACTERS: usize = 600;

/// A judge at work.
pub struct Session<'a> {
    /// Who replies.
    pub responder: &'a dyn Responder,
    /// By what rule.
    pub rule: JudgeRule,
    /// How.
    pub settings: SessionSettings,
    /// Where replies are kept.
    pub log: Option<Mutex<ReplyLog>>,
    /// Where equal requests are looked for.
    pub cache: Option<ReplyCache>,
    /// Set to end the session; what was replied until then is kept.
    pub stop: &'a AtomicBool,
}

/// A reply that an outcome rests on.
struct Used {
    reply: Reply,
    cached: bool,
    asked_now: bool,
}

/// Why a thread ends before its work does.
enum End {
    Interrupted,
    Fatal(JudgeError),
}

impl From<JudgeError> for End {
    fn from(error: JudgeError) -> Self {
        Self::Fatal(error)
    }
}

/// What the threads share.
struct Shared<'s> {
    subjects: &'s [Subject<'s>],
    pace: Pace,
    next: AtomicUsize,
    done: AtomicUsize,
    /// Answers in a row without a reply.
    failures: AtomicUsize,
    /// Set when one thread met the end for all.
    over: AtomicBool,
    fatal: Mutex<Option<JudgeError>>,
    results: Mutex<Vec<(usize, Outcome, Vec<Used>)>>,
}

impl Session<'_> {
    /// Judges answers. A sample that the rule has no prompt for is an error before anything is asked; a judge that refuses
    /// or is gone is one as soon as that is clear. Replies that came until then are in the log and the cache, and the same
    /// call again asks for the others only.
    pub fn judge(&self, subjects: &[Subject<'_>], progress: &dyn Progress) -> Result<Judged, JudgeError> {
        for subject in subjects {
            self.rule.request(self.responder.model(), subject, 1)?;
        }
        let shared = Shared {
            subjects,
            pace: Pace::new(self.settings.requests_per_minute),
            next: AtomicUsize::new(0),
            done: AtomicUsize::new(0),
            failures: AtomicUsize::new(0),
            over: AtomicBool::new(false),
            fatal: Mutex::new(None),
            results: Mutex::new(Vec::with_capacity(subjects.len())),
        };
        progress.update(0, subjects.len());
        let threads = self.settings.parallel.clamp(1, subjects.len().max(1));
        let joined = std::thread::scope(|scope| {
            let handles: Vec<_> = (0..threads).map(|_| scope.spawn(|| self.work(&shared, progress))).collect();
            handles.into_iter().map(|handle| handle.join()).all(|joined| joined.is_ok())
        });
        if let Some(log) = &self.log {
            locked(log).sync()?;
        }
        if !joined {
            return Err(JudgeError::Thread);
        }
        if let Some(error) = locked(&shared.fatal).take() {
            return Err(error);
        }
        let results = std::mem::take(&mut *locked(&shared.results));
        let mut outcomes: Vec<Option<Outcome>> = vec![None; subjects.len()];
        let mut used = Vec::new();
        for (index, outcome, replies) in results {
            if let Some(place) = outcomes.get_mut(index) {
                *place = Some(outcome);
            }
            used.extend(replies);
        }
        let judged = Judged {
            identity: self.identity(&outcomes, &used),
            asked: used.iter().filter(|used| used.asked_now).count(),
            outcomes,
        };
        // One reply is enough to show that somebody is there.
        match judged.outcomes.first() {
            Some(Some(Outcome::Failed { reason })) if used.is_empty() && judged.is_complete() => Err(JudgeError::Unreachable {
                endpoint: self.responder.place().to_owned(),
                failed: judged.outcomes.len(),
                reason: reason.clone(),
            }),
            _ => Ok(judged),
        }
    }

    fn identity(&self, outcomes: &[Option<Outcome>], used: &[Used]) -> JudgeIdentity {
        let (unparsed_replies, failed_replies) = counts(outcomes);
        let sum = |paid: bool, tokens: fn(&Reply) -> u64| -> u64 {
            used.iter().filter(|used| !(paid && used.cached)).map(|used| tokens(&used.reply)).sum()
        };
        let cost = self.settings.prices.map(|prices| {
            let paid = |tokens: fn(&Reply) -> u64| sum(true, tokens) as f64;
            (paid(|reply| reply.prompt_tokens) * prices.prompt + paid(|reply| reply.reply_tokens) * prices.reply) / 1e6
        });
        let reported: BTreeSet<&str> = used.iter().filter_map(|used| used.reply.model.as_deref()).collect();
        JudgeIdentity {
            model: self.responder.model().to_owned(),
            endpoint: self.responder.place().to_owned(),
            rule: self.rule.identity(),
            settings: self.rule.settings_text(),
            unparsed_replies,
            failed_replies,
            prompt_tokens: sum(false, |reply| reply.prompt_tokens),
            reply_tokens: sum(false, |reply| reply.reply_tokens),
            reported_models: reported.into_iter().map(str::to_owned).collect(),
            cached_replies: used.iter().filter(|used| used.cached).count(),
            cost,
        }
    }

    /// One thread: takes answers until there are none, or until it is over for all.
    fn work(&self, shared: &Shared<'_>, progress: &dyn Progress) {
        while !shared.over.load(Ordering::Relaxed) && !self.stop.load(Ordering::Relaxed) {
            let index = shared.next.fetch_add(1, Ordering::Relaxed);
            let Some(subject) = shared.subjects.get(index) else { return };
            match self.one(shared, subject) {
                Ok((outcome, used)) => {
                    locked(&shared.results).push((index, outcome, used));
                    progress.update(shared.done.fetch_add(1, Ordering::Relaxed) + 1, shared.subjects.len());
                }
                Err(End::Interrupted) => return,
                Err(End::Fatal(error)) => {
                    shared.over.store(true, Ordering::Relaxed);
                    locked(&shared.fatal).get_or_insert(error);
                    return;
                }
            }
        }
    }

    fn one(&self, shared: &Shared<'_>, subject: &Subject<'_>) -> Result<(Outcome, Vec<Used>), End> {
        let mut used = Vec::new();
        let mut last = String::new();
        for attempt in 1..=self.rule.attempts() {
            let request = self.rule.request(self.responder.model(), subject, attempt)?;
            let found = match self.stored(&request, subject, attempt)? {
                Some(found) => found,
                None => match self.ask(shared, &request, subject, attempt)? {
                    Ok(reply) => Used { reply, cached: false, asked_now: true },
                    Err(reason) => return Ok((Outcome::Failed { reason }, used)),
                },
            };
            let text = found.reply.text.clone();
            used.push(found);
            if let Some(scored) = scored(&self.rule, subject, &text) {
                return Ok((Outcome::Scored(scored), used));
            }
            last = text;
        }
        Ok((Outcome::Unread { reply: last }, used))
    }

    /// A reply from the log or the cache. One from the cache is written to the log, which has every reply that counts.
    fn stored(&self, request: &ChatRequest, subject: &Subject<'_>, attempt: usize) -> Result<Option<Used>, JudgeError> {
        if self.settings.all_again {
            return Ok(None);
        }
        let wanted = |reply: &Reply| !self.settings.unread_again || read_reply(self.rule.scorer(), &reply.text).is_some();
        let sha256 = request.sha256();
        if let Some(log) = &self.log
            && let Some(record) = locked(log).reply_to(&sha256).filter(|record| wanted(&record.reply))
        {
            return Ok(Some(Used { reply: record.reply.clone(), cached: record.cached, asked_now: false }));
        }
        match self.cache.as_ref().and_then(|cache| cache.find(request)).filter(wanted) {
            Some(reply) => {
                self.record(request, subject, attempt, &reply, 0)?;
                Ok(Some(Used { reply, cached: true, asked_now: false }))
            }
            None => Ok(None),
        }
    }

    /// Asks until there is a reply, or a reason why there is none.
    fn ask(
        &self,
        shared: &Shared<'_>,
        request: &ChatRequest,
        subject: &Subject<'_>,
        attempt: usize,
    ) -> Result<Result<Reply, String>, End> {
        let endpoint = || self.responder.place().to_owned();
        let mut seed = DefaultHasher::new();
        (subject.key, attempt).hash(&mut seed);
        let mut back_off = BackOff::new(self.settings.first_wait, self.settings.longest_wait, seed.finish());
        for number in 1..=self.settings.tries.max(1) {
            if !shared.pace.wait(self.stop) || shared.over.load(Ordering::Relaxed) {
                return Err(End::Interrupted);
            }
            let refusal = match self.responder.respond(request) {
                Ok(reply) => {
                    shared.failures.store(0, Ordering::Relaxed);
                    self.record(request, subject, attempt, &reply, number)?;
                    if let Some(cache) = &self.cache {
                        cache.keep(request, &reply);
                    }
                    return Ok(Ok(reply));
                }
                Err(refusal) => refusal,
            };
            match refusal {
                Refusal::Fatal { reason } => return Err(JudgeError::Refused { endpoint: endpoint(), reason }.into()),
                Refusal::Sample { reason } => return Ok(Err(reason)),
                Refusal::Temporary { reason, retry_after } => {
                    tracing::debug!("the judge, sample {:?}, try {number}: {reason}", subject.key);
                    if number == self.settings.tries.max(1) {
                        let failed = shared.failures.fetch_add(1, Ordering::Relaxed) + 1;
                        if failed >= FAILURES_IN_A_ROW {
                            return Err(JudgeError::Unreachable { endpoint: endpoint(), failed, reason }.into());
                        }
                        return Ok(Err(format!("{reason} ({number} tries)")));
                    }
                    let wait = match retry_after {
                        Some(wait) if wait > self.settings.longest_pause => {
                            let limit = self.settings.longest_pause;
                            return Err(JudgeError::Busy { endpoint: endpoint(), wait, limit }.into());
                        }
                        Some(wait) => {
                            shared.pace.hold(wait);
                            wait.saturating_add(back_off.after(1))
                        }
                        None => back_off.after(number),
                    };
                    if !sleep(wait, self.stop) {
                        return Err(End::Interrupted);
                    }
                }
            }
        }
        Ok(Err("no try was allowed".to_owned()))
    }

    fn record(
        &self,
        request: &ChatRequest,
        subject: &Subject<'_>,
        attempt: usize,
        reply: &Reply,
        requests: u32,
    ) -> Result<(), JudgeError> {
        let Some(log) = &self.log else { return Ok(()) };
        let record = ReplyRecord {
            request_sha256: request.sha256(),
            key: subject.key.to_owned(),
            rule: self.rule.identity(),
            attempt,
            model: request.model.clone(),
            endpoint: self.responder.place().to_owned(),
            temperature: request.temperature,
            max_tokens: request.max_tokens,
            reply: reply.clone(),
            requests,
            cached: requests == 0,
            time: (self.settings.now)(),
        };
        locked(log).append(&record)
    }
}

/// Unread and failed answers.
fn counts(outcomes: &[Option<Outcome>]) -> (usize, usize) {
    let count = |wanted: fn(&Outcome) -> bool| outcomes.iter().flatten().filter(|outcome| wanted(outcome)).count();
    (count(|outcome| matches!(outcome, Outcome::Unread { .. })), count(|outcome| matches!(outcome, Outcome::Failed { .. })))
}

/// The score that a reply gives, with the beginning of the reply beside it.
fn scored(rule: &JudgeRule, subject: &Subject<'_>, reply: &str) -> Option<SampleScore> {
    let verdict = read_reply(rule.scorer(), reply)?;
    let mut score = judged(rule.scorer(), subject.reference, subject.category, verdict);
    score.detail = json!({ "judge": { "reply": beginning(reply) } });
    Some(score)
}

/// The part of a reply that is kept with a score.
pub(super) fn beginning(reply: &str) -> String {
    reply.chars().take(KEPT_CHARACTERS).collect()
}

impl Outcome {
    /// The score of the sample, which an unread reply and a failure do not have. `detail` says what became of the answer.
    pub fn into_score(self) -> SampleScore {
        let none = |detail| SampleScore { parsed: None, value: None, contributions: Default::default(), detail };
        match self {
            Self::Scored(score) => score,
            Self::Unread { reply } => none(json!({ "judge": { "unread": beginning(&reply) } })),
            Self::Failed { reason } => none(json!({ "judge": { "failed": reason } })),
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Reads the replies of a log again, by this rule, without asking anybody. `before` is what the last session said of itself.
/// An answer counts with the last reply to each of its prompts by the same judge; one without counts as failed. `None` where
/// the log has no reply to these prompts at all.
pub fn from_log(
    rule: JudgeRule,
    subjects: &[Subject<'_>],
    records: &[ReplyRecord],
    before: Option<&JudgeIdentity>,
) -> Option<Judged> {
    let prompts = rule.identity();
    let same = |record: &&ReplyRecord| record.rule == prompts && before.is_none_or(|judge| judge.model == record.model);
    let latest = records.iter().rev().find(same)?;
    let mut by_prompt: HashMap<(&str, usize), &ReplyRecord> = HashMap::new();
    for record in records.iter().filter(same).filter(|record| record.model == latest.model) {
        by_prompt.insert((&record.key, record.attempt), record);
    }
    let mut used: Vec<&ReplyRecord> = Vec::new();
    let mut outcomes = Vec::with_capacity(subjects.len());
    for subject in subjects {
        let mut outcome = Outcome::Failed { reason: "no reply is stored".to_owned() };
        for attempt in 1..=rule.attempts() {
            let Some(record) = by_prompt.get(&(subject.key, attempt)) else { break };
            // The prompt must be the one that the reply was given to: another answer has another one.
            let request = rule.request(&record.model, subject, attempt).ok()?;
            let request = ChatRequest { temperature: record.temperature, max_tokens: record.max_tokens, ..request };
            if request.sha256() != record.request_sha256 {
                break;
            }
            used.push(record);
            match scored(&rule, subject, &record.reply.text) {
                Some(score) => {
                    outcome = Outcome::Scored(score);
                    break;
                }
                None => outcome = Outcome::Unread { reply: record.reply.text.clone() },
            }
        }
        outcomes.push(Some(outcome));
    }
    let (unparsed_replies, failed_replies) = counts(&outcomes);
    let reported: BTreeSet<&str> = used.iter().filter_map(|record| record.reply.model.as_deref()).collect();
    let settings = before.map_or_else(|| rule.settings_text(), |judge| judge.settings.clone());
    let identity = JudgeIdentity {
        model: latest.model.clone(),
        endpoint: latest.endpoint.clone(),
        rule: prompts,
        settings,
        unparsed_replies,
        failed_replies,
        prompt_tokens: used.iter().map(|record| record.reply.prompt_tokens).sum(),
        reply_tokens: used.iter().map(|record| record.reply.reply_tokens).sum(),
        reported_models: reported.into_iter().map(str::to_owned).collect(),
        cached_replies: used.iter().filter(|record| record.cached).count(),
        cost: before.and_then(|judge| judge.cost),
    };
    Some(Judged { outcomes, identity, asked: 0 })
}
