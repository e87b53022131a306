//! The judge against a real server of this machine that misbehaves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test stops at the first surprise")]

mod judge_support;

use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use judge_support::{Act, Seen, Server, error};
use llava_gauge::benchmark::{JudgeContext, Reference, RelativeScore, ScorerRule};
use llava_gauge::judge::{
    Endpoint, EndpointSettings, JUDGE_FILE, JudgeError, JudgeRule, Judged, Outcome, Prices, Progress, ReplyCache, ReplyLog,
    Secret, Session, SessionSettings, Subject, from_log,
};

const KEY: &str = "sk-very-secret-0123456789";
const BENCH: ScorerRule =
    ScorerRule::LlavaBench { context: JudgeContext::InTheWild, relative_score: RelativeScore::RatioOfMeans };

struct Quiet;

impl Progress for Quiet {
    fn update(&self, _: usize, _: usize) {}
}

fn endpoint_settings(url: &str) -> EndpointSettings {
    EndpointSettings {
        url: url.to_owned(),
        model: "judge".to_owned(),
        key: Some(Secret::new(KEY)),
        key_header: None,
        max_completion_tokens: false,
        connect_timeout: Duration::from_secs(5),
        timeout: Duration::from_secs(5),
    }
}

fn settings() -> SessionSettings {
    SessionSettings {
        parallel: 1,
        requests_per_minute: None,
        tries: 3,
        first_wait: Duration::from_millis(10),
        longest_wait: Duration::from_millis(50),
        longest_pause: Duration::from_secs(5),
        prices: None,
        unread_again: false,
        all_again: false,
        now: || "2026-01-01T00:00:00Z".to_owned(),
    }
}

/// What a session is made with.
struct Setup<'a> {
    endpoint: EndpointSettings,
    settings: SessionSettings,
    rule: ScorerRule,
    log: Option<&'a Path>,
    cache: Option<ReplyCache>,
}

impl<'a> Setup<'a> {
    fn new(server: &Server) -> Self {
        Self { endpoint: endpoint_settings(&server.url), settings: settings(), rule: BENCH, log: None, cache: None }
    }

    /// Judges so many answers.
    fn judge(&self, answers: usize) -> Result<Judged, JudgeError> {
        self.judge_until(answers, &AtomicBool::new(false))
    }

    fn judge_until(&self, answers: usize, stop: &AtomicBool) -> Result<Judged, JudgeError> {
        let endpoint = Endpoint::new(self.endpoint.clone(), true).unwrap();
        let log = self.log.map(|folder| Mutex::new(ReplyLog::open(&folder.join(JUDGE_FILE)).unwrap()));
        let rule = JudgeRule::new(self.rule, None, None).unwrap();
        let session = Session { responder: &endpoint, rule, settings: self.settings, log, cache: self.cache.clone(), stop };
        with_subjects(answers, |subjects| session.judge(subjects, &Quiet))
    }
}

fn with_subjects<T>(count: usize, run: impl FnOnce(&[Subject<'_>]) -> T) -> T {
    let reference = |index| Reference::Judged {
        answer: format!("reference {index}"),
        context: Some("context".to_owned()),
        capabilities: vec!["rec".to_owned()],
    };
    let references: Vec<Reference> = (0..count).map(reference).collect();
    let texts: Vec<[String; 3]> =
        (0..count).map(|index| [format!("key{index}"), format!("question {index}"), format!("answer {index}")]).collect();
    let subjects: Vec<Subject<'_>> = references
        .iter()
        .zip(&texts)
        .map(|(reference, [key, question, answer])| Subject { key, question, category: Some("conv"), reference, answer })
        .collect();
    run(&subjects)
}

fn scored(judged: &Judged) -> usize {
    judged.outcomes.iter().filter(|outcome| matches!(outcome, Some(Outcome::Scored(_)))).count()
}

fn say(text: &str) -> Act {
    Act::Say(text.to_owned())
}

fn status(status: u16, headers: &[&str], body: String) -> Act {
    Act::Status(status, headers.iter().map(|line| (*line).to_owned()).collect(), body)
}

#[test]
fn a_good_endpoint_is_asked_as_openai_wants_it() {
    let server = Server::start(|_, _| say("8 6\nbecause"));
    let mut setup = Setup::new(&server);
    setup.settings.prices = Some(Prices { prompt: 10.0, reply: 30.0 });
    let judged = setup.judge(2).unwrap();
    assert_eq!((scored(&judged), judged.asked), (2, 2));
    let identity = &judged.identity;
    assert_eq!((identity.model.as_str(), identity.endpoint.as_str()), ("judge", server.url.as_str()));
    assert_eq!(
        (identity.rule.as_str(), identity.settings.as_str()),
        ("llava-bench-in_the_wild/1", "temperature 0.2, 1024 tokens")
    );
    assert_eq!((identity.prompt_tokens, identity.reply_tokens), (200, 14));
    assert_eq!(identity.reported_models, ["judge-2026-01-01"]);
    assert!((identity.cost.unwrap() - (200.0 * 10.0 + 14.0 * 30.0) / 1e6).abs() < 1e-12);
    let seen: &Seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions");
    assert_eq!(seen.header("authorization"), Some(format!("Bearer {KEY}").as_str()));
    assert_eq!(seen.header("content-type"), Some("application/json"));
    assert_eq!(seen.body["model"], "judge");
    assert_eq!((seen.body["temperature"].as_f64(), seen.body["max_tokens"].as_u64()), (Some(0.2), Some(1024)));
    assert_eq!(seen.body["messages"][0]["role"], "system");
    assert!(seen.content().starts_with("[Context]\ncontext\n\n[Question]\nquestion 0\n\n[Assistant 1]\nreference 0\n\n[End of"));
    match &judged.outcomes[0] {
        Some(Outcome::Scored(score)) => {
            assert_eq!((score.value, score.parsed.as_deref()), (Some(0.6), Some("8 6")));
            assert_eq!(score.detail["judge"]["reply"], "8 6\nbecause");
        }
        other => panic!("{other:?}"),
    }
}

#[test]
fn another_header_and_the_newer_name_of_the_longest_reply() {
    let server = Server::start(|_, _| say("8 6"));
    let mut setup = Setup::new(&server);
    setup.endpoint.url = format!("{}?api-version=1", server.url);
    setup.endpoint.key_header = Some("api-key".to_owned());
    setup.endpoint.max_completion_tokens = true;
    let judged = setup.judge(1).unwrap();
    let seen = &server.seen()[0];
    assert_eq!(seen.path, "/v1/chat/completions?api-version=1");
    assert_eq!((seen.header("api-key"), seen.header("authorization")), (Some(KEY), None));
    assert_eq!((seen.body["max_completion_tokens"].as_u64(), seen.body.get("max_tokens")), (Some(1024), None));
    assert_eq!(judged.identity.endpoint, server.url, "without the query");
}

#[test]
fn what_passes_is_tried_again() {
    let misbehaviours: Vec<(&str, Act)> = vec![
        ("429", status(429, &[], error("rate_limit_exceeded", "slow down"))),
        ("408", status(408, &[], String::new())),
        ("409", status(409, &[], String::new())),
        ("500", status(500, &[], "<html>oops</html>".to_owned())),
        ("502", status(502, &[], String::new())),
        ("503", status(503, &["retry-after: 0"], String::new())),
        ("reset in the body", Act::Break),
        ("truncated chunks", Act::BreakChunked),
        ("closed", Act::Close),
        ("malformed JSON", Act::Body("application/json", "{\"choices\": [".to_owned())),
        ("a page", Act::Body("text/html", "<html>Sign in</html>".to_owned())),
        ("no object", Act::Body("application/json", "[]".to_owned())),
        ("no choices", Act::Body("application/json", "{}".to_owned())),
        ("empty choices", Act::Body("application/json", "{\"choices\": []}".to_owned())),
        ("no message", Act::Body("application/json", "{\"choices\": [{}]}".to_owned())),
        ("no content", Act::Body("application/json", "{\"choices\": [{\"message\": {\"role\": \"assistant\"}}]}".to_owned())),
        ("content of another kind", Act::Body("application/json", "{\"choices\": [{\"message\": {\"content\": 7}}]}".to_owned())),
        ("an error with status 200", Act::Body("application/json", error("server_error", "overloaded"))),
        ("no UTF-8", Act::Body("application/json", "\u{0}".to_owned())),
        ("huge", Act::Huge(6 << 20)),
    ];
    for (name, act) in misbehaviours {
        let server = Server::start(move |number, _| if number < 2 { act.clone() } else { say("8 9") });
        let judged = Setup::new(&server).judge(1).unwrap();
        assert_eq!((scored(&judged), server.count()), (1, 3), "{name}");
    }
}

#[test]
fn an_answer_that_never_gets_a_reply_fails_alone_and_says_why() {
    let server = Server::start(|_, seen| {
        if seen.content().contains("question 1\n") { Act::Body("text/html", "<p>no</p>".to_owned()) } else { say("8 9") }
    });
    let judged = Setup::new(&server).judge(3).unwrap();
    assert_eq!((scored(&judged), judged.identity.failed_replies, server.count()), (2, 1, 5));
    match &judged.outcomes[1] {
        Some(Outcome::Failed { reason }) => assert!(reason.contains("text/html") && reason.contains("3 tries"), "{reason}"),
        other => panic!("{other:?}"),
    }
    assert_eq!(judged.outcomes[1].clone().unwrap().into_score().value, None);
}

#[test]
fn a_hang_and_a_slow_drip_end_with_the_time_of_a_request() {
    for act in [Act::Hang(Duration::from_secs(20)), Act::Drip(Duration::from_millis(20))] {
        let name = format!("{act:?}");
        let server = Server::start(move |number, _| if number == 0 { act.clone() } else { say("8 9") });
        let mut setup = Setup::new(&server);
        setup.endpoint.timeout = Duration::from_millis(300);
        let started = Instant::now();
        let judged = setup.judge(1).unwrap();
        assert_eq!((scored(&judged), server.count()), (1, 2), "{name}");
        assert!(started.elapsed() < Duration::from_secs(15), "{name}: {:?}", started.elapsed());
    }
}

#[test]
fn a_whole_chunked_reply_and_unusual_contents_are_read() {
    let server = Server::start(|_, _| Act::Chunked("8 9".to_owned()));
    assert_eq!(scored(&Setup::new(&server).judge(2).unwrap()), 2);
    let parts = "{\"choices\": [{\"message\": {\"content\": [{\"type\": \"text\", \"text\": \"8 \"}, {\"text\": \"9\"}]}}]}";
    let server = Server::start(move |_, _| Act::Body("text/plain", parts.to_owned()));
    let judged = Setup::new(&server).judge(1).unwrap();
    assert_eq!((scored(&judged), judged.identity.prompt_tokens), (1, 0));
    // A filtered or refused reply is one that cannot be read.
    for message in ["{\"content\": null}", "{\"refusal\": \"no\"}"] {
        let body = format!("{{\"choices\": [{{\"message\": {message}, \"finish_reason\": \"content_filter\"}}]}}");
        let server = Server::start(move |_, _| Act::Body("application/json", body.clone()));
        let judged = Setup::new(&server).judge(1).unwrap();
        assert_eq!((judged.identity.unparsed_replies, server.count()), (1, 1), "{message}");
    }
}

#[test]
fn what_would_fail_again_ends_the_session_at_once() {
    let incorrect = error("invalid_api_key", &format!("Incorrect API key provided: {KEY}."));
    for (act, word) in [
        (status(401, &[], incorrect), "401"),
        (status(403, &[], error("x", "no access")), "no access"),
        (status(404, &[], error("model_not_found", "The model does not exist")), "its model"),
        (status(400, &[], error("invalid_request", "temperature")), "temperature"),
        (status(429, &["retry-after: 1"], error("insufficient_quota", "You exceeded your quota")), "quota"),
        (status(307, &["location: https://elsewhere.example/x?key=1"], String::new()), "elsewhere.example/x"),
        (status(302, &[], String::new()), "redirection"),
    ] {
        let server = Server::start(move |_, _| act.clone());
        let error = Setup::new(&server).judge(3).unwrap_err();
        assert!(matches!(error, JudgeError::Refused { .. }), "{error:?}");
        let error = error.to_string();
        assert!(error.contains(word) && error.contains(&server.url) && !error.contains(KEY), "{error}");
        assert_eq!(server.count(), 1, "{word}");
    }
}

#[test]
fn a_request_that_is_too_long_fails_its_answer_only() {
    let server =
        Server::start(
            |number, _| {
                if number == 0 { status(400, &[], error("context_length_exceeded", "too long")) } else { say("8 9") }
            },
        );
    let judged = Setup::new(&server).judge(2).unwrap();
    assert_eq!((scored(&judged), judged.identity.failed_replies, server.count()), (1, 1, 2));
}

#[test]
fn retry_after_is_honoured_in_seconds_and_as_a_date() {
    let server =
        Server::start(|number, _| if number == 0 { status(429, &["Retry-After: 0.4"], String::new()) } else { say("8 9") });
    let mut setup = Setup::new(&server);
    setup.settings.parallel = 3;
    setup.judge(3).unwrap();
    let seen = server.seen();
    // The others were under way when the endpoint asked to wait; what came later waited.
    let late: Vec<Duration> = seen[3..].iter().map(|request| request.at - seen[0].at).collect();
    assert!(!late.is_empty() && late.iter().all(|wait| *wait >= Duration::from_millis(350)), "{late:?}");

    // The clock of the endpoint counts, not ours: its date is years ago.
    let server = Server::start(|number, _| {
        let headers = ["date: Sun, 06 Nov 1994 08:49:37 GMT", "retry-after: Sun, 06 Nov 1994 08:49:38 GMT"];
        if number == 0 { status(503, &headers, String::new()) } else { say("8 9") }
    });
    Setup::new(&server).judge(1).unwrap();
    let seen = server.seen();
    assert!(seen[1].at - seen[0].at >= Duration::from_millis(950), "{:?}", seen[1].at - seen[0].at);

    let server = Server::start(|_, _| status(429, &["retry-after: 86400"], String::new()));
    let error = Setup::new(&server).judge(1).unwrap_err();
    assert!(matches!(error, JudgeError::Busy { .. }) && error.to_string().contains("86400"), "{error}");
    assert_eq!(server.count(), 1);
}

#[test]
fn waits_grow_between_tries() {
    let server = Server::start(|_, _| status(500, &[], String::new()));
    let mut setup = Setup::new(&server);
    (setup.settings.tries, setup.settings.first_wait) = (4, Duration::from_millis(40));
    setup.settings.longest_wait = Duration::from_secs(1);
    let error = setup.judge(1).unwrap_err();
    assert!(matches!(error, JudgeError::Unreachable { .. }), "no reply at all: {error:?}");
    let seen = server.seen();
    let waits: Vec<Duration> = seen.windows(2).map(|pair| pair[1].at - pair[0].at).collect();
    for (wait, least) in waits.iter().zip([20, 40, 80]) {
        assert!(*wait >= Duration::from_millis(least), "{waits:?}");
    }
    assert_eq!(waits.len(), 3);
}

#[test]
fn an_endpoint_that_is_gone_is_not_asked_about_every_answer() {
    let server = Server::start(|number, _| if number == 0 { say("8 9") } else { Act::Close });
    let error = Setup::new(&server).judge(50).unwrap_err();
    assert!(matches!(error, JudgeError::Unreachable { failed: 5, .. }), "{error:?}");
    assert_eq!(server.count(), 1 + 5 * 3);
    // Nobody listens on a port that was just given back.
    let free = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let mut setup = Setup::new(&server);
    setup.endpoint.url = format!("http://{free}/v1");
    assert!(matches!(setup.judge(1).unwrap_err(), JudgeError::Unreachable { .. }));
}

#[test]
fn no_more_requests_at_once_than_allowed() {
    for parallel in [1, 3] {
        let server = Server::start(|_, _| Act::SayLate("8 9".to_owned(), Duration::from_millis(30)));
        let mut setup = Setup::new(&server);
        setup.settings.parallel = parallel;
        assert_eq!(scored(&setup.judge(12).unwrap()), 12);
        assert!(server.most_at_once() <= parallel && (parallel == 1 || server.most_at_once() > 1), "{}", server.most_at_once());
        assert_eq!(server.count(), 12);
    }
}

#[test]
fn the_pace_is_kept_by_all_threads_together() {
    let server = Server::start(|_, _| say("8 9"));
    let mut setup = Setup::new(&server);
    (setup.settings.parallel, setup.settings.requests_per_minute) = (4, Some(1200.0));
    let started = Instant::now();
    setup.judge(8).unwrap();
    // Eight requests 50 ms apart.
    let last = server.seen().iter().map(|seen| seen.at).max().unwrap();
    assert!(last - started >= Duration::from_millis(7 * 50), "{:?}", last - started);
}

#[test]
fn stored_replies_are_not_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, _| say("8 9"));
    let mut setup = Setup::new(&server);
    setup.log = Some(folder.path());
    let first = setup.judge(3).unwrap();
    let second = setup.judge(5).unwrap();
    assert_eq!((first.asked, second.asked, server.count()), (3, 2, 5));
    assert_eq!(first.outcomes[..3], second.outcomes[..3]);
    let records = ReplyLog::read(&folder.path().join(JUDGE_FILE)).unwrap();
    assert_eq!(records.len(), 5);
    assert_eq!(
        (records[0].requests, records[0].reply.text.as_str(), records[0].rule.as_str()),
        (1, "8 9", "llava-bench-in_the_wild/1")
    );
    // Another model is another judge.
    setup.endpoint.model = "other".to_owned();
    assert_eq!(setup.judge(5).unwrap().asked, 5);
    // The other way of counting asks the same.
    setup.rule = ScorerRule::LlavaBench { context: JudgeContext::InTheWild, relative_score: RelativeScore::MeanOfRatios };
    assert_eq!(setup.judge(5).unwrap().asked, 0);
    setup.settings.all_again = true;
    assert_eq!(setup.judge(5).unwrap().asked, 5);
}

#[test]
fn an_interruption_loses_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stop = std::sync::Arc::new(AtomicBool::new(false));
    let in_server = std::sync::Arc::clone(&stop);
    let server = Server::start(move |number, _| {
        in_server.store(number == 3, Ordering::SeqCst);
        say("8 9")
    });
    let mut setup = Setup::new(&server);
    setup.log = Some(folder.path());
    let judged = setup.judge_until(10, &stop).unwrap();
    assert!(!judged.is_complete());
    assert_eq!((scored(&judged), server.count()), (4, 4));
    let judged = setup.judge(10).unwrap();
    assert!(judged.is_complete());
    assert_eq!((scored(&judged), judged.asked, server.count()), (10, 6, 10));
    // A fatal refusal loses nothing either.
    let folder = tempfile::tempdir().unwrap();
    let refusing = Server::start(|number, _| if number < 2 { say("8 9") } else { status(401, &[], String::new()) });
    let mut setup = Setup::new(&refusing);
    setup.log = Some(folder.path());
    setup.judge(10).unwrap_err();
    assert_eq!(ReplyLog::read(&folder.path().join(JUDGE_FILE)).unwrap().len(), 2);
}

#[test]
fn a_cached_reply_is_not_paid_for_and_belongs_to_the_log() {
    let (cache, folder) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let server = Server::start(|_, _| say("8 9"));
    let mut setup = Setup::new(&server);
    setup.cache = Some(ReplyCache::at(cache.path()));
    setup.judge(3).unwrap();
    // Another endpoint: the cache goes by content.
    let other = Server::start(|_, _| say("1 1"));
    setup.endpoint.url = other.url.clone();
    setup.log = Some(folder.path());
    setup.settings.prices = Some(Prices { prompt: 1.0, reply: 1.0 });
    let judged = setup.judge(4).unwrap();
    assert_eq!((judged.asked, other.count(), judged.identity.cached_replies), (1, 1, 3));
    assert!((judged.identity.cost.unwrap() - 107.0 / 1e6).abs() < 1e-12);
    let records = ReplyLog::read(&folder.path().join(JUDGE_FILE)).unwrap();
    assert_eq!(records.iter().filter(|record| record.cached && record.requests == 0).count(), 3);
}

#[test]
fn unread_replies_are_counted_and_in_no_mean_and_may_be_asked_for_again() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|number, _| say(if number == 1 { "I rate them 8 and 9." } else { "8 6" }));
    let mut setup = Setup::new(&server);
    setup.log = Some(folder.path());
    let judged = setup.judge(3).unwrap();
    assert_eq!((scored(&judged), judged.identity.unparsed_replies, judged.identity.failed_replies), (2, 1, 0));
    let unread = judged.outcomes[1].clone().unwrap().into_score();
    assert!(unread.value.is_none() && unread.parsed.is_none() && unread.contributions.is_empty());
    assert_eq!(unread.detail["judge"]["unread"], "I rate them 8 and 9.");
    assert_eq!(setup.judge(3).unwrap().asked, 0);
    setup.settings.unread_again = true;
    let judged = setup.judge(3).unwrap();
    assert_eq!((judged.asked, scored(&judged)), (1, 3));
}

#[test]
fn mm_vet_asks_up_to_five_times_with_rising_temperature() {
    let server = Server::start(|number, seen| {
        let again = seen.content().ends_with("Predict the correctness of the answer (digit): ");
        assert_eq!(again, number % 6 > 0 && number < 5 || number == 6, "{number}");
        say(match number {
            0..=4 => "N/A",
            5 => "of",
            _ => "0.5",
        })
    });
    let mut setup = Setup::new(&server);
    setup.rule = ScorerRule::MmVet;
    let judged = setup.judge(2).unwrap();
    assert_eq!((scored(&judged), judged.identity.unparsed_replies, server.count()), (1, 1, 7));
    let temperatures: Vec<f64> = server.seen().iter().map(|seen| seen.body["temperature"].as_f64().unwrap()).collect();
    assert_eq!(temperatures, [0.0, 0.0, 0.5, 1.0, 1.5, 0.0, 0.0]);
    assert!(server.seen().iter().all(|seen| seen.body["max_tokens"] == 3));
    assert!(judged.identity.settings.contains("up to 5 prompts"), "{}", judged.identity.settings);
}

#[test]
fn the_log_alone_gives_the_same_scores() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|number, _| say(["8 6", "none", "9 3"][number % 3]));
    let mut setup = Setup::new(&server);
    setup.log = Some(folder.path());
    let judged = setup.judge(3).unwrap();
    let records = ReplyLog::read(&folder.path().join(JUDGE_FILE)).unwrap();
    let rule = JudgeRule::new(BENCH, None, None).unwrap();
    let again = with_subjects(3, |subjects| from_log(rule, subjects, &records, Some(&judged.identity)).unwrap());
    assert_eq!((&again.outcomes, &again.identity), (&judged.outcomes, &judged.identity));
    // One more answer has no reply, and a changed one has lost its own.
    let more = with_subjects(4, |subjects| {
        let mut subjects = subjects.to_vec();
        subjects[0].answer = "changed";
        from_log(rule, &subjects, &records, None).unwrap()
    });
    assert_eq!((scored(&more), more.identity.failed_replies, more.identity.unparsed_replies), (1, 2, 1));
    let none = JudgeRule::new(ScorerRule::MmVet, None, None).unwrap();
    assert!(with_subjects(3, |subjects| from_log(none, subjects, &records, None)).is_none());
}

#[test]
fn an_endpoint_that_repeats_the_key_does_not_get_it_into_a_record() {
    let folder = tempfile::tempdir().unwrap();
    let server = Server::start(|_, seen| say(&format!("8 9\nYou sent {}", seen.header("authorization").unwrap())));
    let mut setup = Setup::new(&server);
    setup.log = Some(folder.path());
    let judged = setup.judge(1).unwrap();
    let log = std::fs::read_to_string(folder.path().join(JUDGE_FILE)).unwrap();
    assert!(log.contains("Bearer [key]") && !log.contains(KEY), "{log}");
    assert!(!format!("{judged:?}").contains(KEY));
}
