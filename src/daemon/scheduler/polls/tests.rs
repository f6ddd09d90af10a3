//! Polls as they come and go: of one trigger, and of many.

use std::collections::BTreeSet;

use gix::ObjectId;

use super::*;
use crate::{base::fault::Kind, git::refs::Tip};

const EVERY: Duration = Duration::from_secs(600);

/// A story of one trigger.
struct Story {
    polls: Polls,
    now: Instant,
    begin: Instant,
    name: TriggerName,
    is_failing: bool,
}

fn newest(n: u8) -> Newest {
    Newest {
        tip: Tip::Detached,
        commit: ObjectId::from_bytes_or_panic(&[n; 20]),
    }
}

impl Story {
    fn new() -> Self {
        let name = TriggerName::new("site").unwrap();
        let begin = Instant::now();
        Self {
            polls: Polls::new([(name.clone(), EVERY)].into_iter(), begin),
            now: begin,
            begin,
            name,
            is_failing: false,
        }
    }

    fn time(&self) -> Now {
        Now {
            at: self.now,
            clock: 1000 + (self.now - self.begin).as_secs(),
        }
    }

    /// It is about so many `intervals` until it is the trigger's turn, and then it is.
    fn wait(&mut self, intervals: u32) {
        let next = self.polls.when(&self.name).unwrap();
        assert_eq!(self.polls.next(self.now), Some(next));
        let (waited, about) = (next - self.now, EVERY * intervals);
        assert!(
            waited >= about.mul_f64(0.9) && waited <= about.mul_f64(1.1),
            "{waited:?} for {about:?}"
        );
        self.now = next;
    }

    fn begin(&mut self) -> Option<Poll> {
        self.polls.begin(self.now, |_| true)
    }

    fn poll(&mut self, is: Is, n: u8) -> Verdict {
        let poll = self.begin().unwrap();
        let answer = Answer::new(newest(n), is);
        self.polls
            .answered(&poll, Ok(answer), self.is_failing, self.time())
    }

    fn poll_in_vain(&mut self) -> Verdict {
        let poll = self.begin().unwrap();
        let failure = Failure::new(Kind::Unreachable, "nobody there", None);
        self.polls
            .answered(&poll, Err(failure), self.is_failing, self.time())
    }

    /// A run that takes no time.
    fn run(&mut self, has_asked: bool, is_failing: bool) {
        self.polls.run_begins(&self.name);
        self.is_failing = is_failing;
        self.polls.run_ended(&self.name, has_asked, self.time());
    }

    fn times(&self) -> u64 {
        let polled = self.polls.polled(&self.name, self.time()).unwrap();
        polled.failing.map_or(0, |failing| failing.times)
    }
}

#[test]
fn first_polls_are_spread_and_the_others_jitter() {
    let begin = Instant::now();
    let names: Vec<_> = (0..200)
        .map(|n| TriggerName::new(format!("t{n}")).unwrap())
        .collect();
    let mut polls = Polls::new(names.iter().map(|name| (name.clone(), EVERY)), begin);
    let first: BTreeSet<_> = names.iter().map(|name| polls.when(name).unwrap()).collect();
    assert!(first.len() > 190, "no two at the same time");
    assert!(first.iter().all(|at| *at - begin <= APART * 200));
    assert!(
        first.iter().any(|at| *at - begin > APART * 100) && first.iter().any(|at| *at - begin < APART * 100)
    );
    let later = begin + APART * 200;
    assert_eq!((polls.due(later), polls.due(*first.first().unwrap())), (200, 1));
    let mut waits = BTreeSet::new();
    let mut last = begin;
    while let Some(poll) = polls.begin(later, |_| true) {
        assert!(first.contains(&last) || last == begin);
        last = *first.iter().find(|at| **at > last).unwrap();
        let now = Now { at: later, clock: 1 };
        polls.answered(&poll, Ok(Answer::new(newest(1), Is::Deployed)), false, now);
        waits.insert(polls.when(&poll.name).unwrap() - later);
    }
    let (least, most) = (*waits.first().unwrap(), *waits.last().unwrap());
    assert!(waits.len() > 190 && least >= EVERY.mul_f64(0.9) && most <= EVERY.mul_f64(1.1));
    assert!(least < EVERY.mul_f64(0.95) && most > EVERY.mul_f64(1.05));
    // A short interval is not waited for longer than it is.
    let soon = Polls::new(
        names.iter().map(|name| (name.clone(), Duration::from_secs(1))),
        begin,
    );
    assert_eq!(soon.due(begin + Duration::from_secs(1)), 200);
}

#[test]
fn news_are_run_once_and_what_is_held_or_deployed_is_not() {
    let mut story = Story::new();
    story.now += APART;
    assert_eq!(story.poll(Is::Deployed, 1), Verdict::Nothing);
    story.wait(1);
    let poll = story.begin().unwrap();
    assert_eq!(poll.quiet.as_ref().unwrap().newest, newest(1));
    story.polls.put_off(&poll, story.now);
    story.wait(1);
    assert_eq!(story.poll(Is::News, 2), Verdict::Run);
    story.run(true, false);
    story.wait(1);
    assert!(story.begin().unwrap().quiet.is_none(), "a run is looked at again");
    story.polls.give_up(None);

    let mut story = Story::new();
    story.now += APART;
    // One that was rolled back, and is failing.
    story.is_failing = true;
    assert_eq!(story.poll(Is::Held, 3), Verdict::Nothing);
    story.wait(1);
    assert_eq!(story.poll(Is::News, 4), Verdict::Run);
}

/// For how many polls in a row there is no run.
fn quiet_polls(story: &mut Story, is: Is, n: u8) -> u32 {
    for polls in 0.. {
        // The remote is asked as often as before.
        story.wait(1);
        if story.poll(is, n) == Verdict::Run {
            return polls;
        }
    }
    unreachable!()
}

#[test]
fn what_fails_is_tried_ever_more_rarely_and_something_newer_at_once() {
    let mut story = Story::new();
    story.now += APART;
    assert_eq!(story.poll(Is::News, 1), Verdict::Run);
    story.run(true, true);
    let between: Vec<u32> = (0..5)
        .map(|_| {
            let between = quiet_polls(&mut story, Is::News, 1);
            story.run(true, true);
            between
        })
        .collect();
    // Every 20, 40, 60, 60 minutes; how many polls that are, jitter says.
    for (between, intervals) in between.iter().zip([2, 4, 6, 6, 6]) {
        assert!(
            (intervals - 2..=intervals + 1).contains(between),
            "{between} of {intervals}"
        );
    }
    story.wait(1);
    assert_eq!(story.poll(Is::News, 2), Verdict::Run);
    story.run(true, false);
    story.wait(1);
    assert_eq!(story.poll(Is::Deployed, 2), Verdict::Nothing);
    // A trigger that fails on what is deployed, since its hooks do, say.
    story.run(true, true);
    story.wait(1);
    assert_eq!(story.poll(Is::Deployed, 2), Verdict::Run);
    story.run(true, true);
    assert!(quiet_polls(&mut story, Is::Deployed, 2) >= 1);
}

#[test]
fn a_remote_that_does_not_answer_is_asked_ever_more_rarely() {
    let mut story = Story::new();
    story.now += APART;
    assert_eq!(story.poll_in_vain(), Verdict::Run, "which says so to all");
    story.run(false, true);
    let waits = [2, 4, 6, 6, 6];
    for (n, wait) in (1..).zip(waits) {
        assert_eq!(story.times(), n);
        story.wait(wait);
        assert_eq!(story.poll_in_vain(), Verdict::Nothing);
    }
    story.wait(6);
    assert_eq!(story.poll(Is::Deployed, 1), Verdict::Run, "as it has failed");
    story.run(true, false);
    assert_eq!(story.times(), 0);
    story.wait(1);
    // One that is failing for another reason is failing anyway.
    story.is_failing = true;
    assert_eq!(story.poll_in_vain(), Verdict::Nothing);
    story.wait(2);
    assert_eq!(story.poll(Is::Held, 1), Verdict::Nothing);
    assert_eq!(story.times(), 0);
    story.wait(1);

    // Any run that has asked the remote counts.
    story.is_failing = false;
    assert_eq!(story.poll_in_vain(), Verdict::Run);
    story.run(true, false);
    assert_eq!(story.times(), 0);
    story.wait(1);

    let day = Duration::from_secs(24 * 60 * 60);
    assert!(rarely(day, 9) >= day.mul_f64(0.9), "never more often than ever");
    assert!(rarely(day, u64::MAX) <= day.mul_f64(1.1));
}

#[test]
fn a_run_counts_as_a_poll_and_makes_one_beside_it_void() {
    let mut story = Story::new();
    story.now += APART;
    // It waits or goes on: its end is waited for.
    assert!(story.polls.begin(story.now, |_| false).is_none());
    assert_eq!(story.polls.when(&story.name), None);
    story.now += EVERY;
    assert!(story.begin().is_none());
    story.run(true, false);
    story.wait(1);
    let poll = story.begin().unwrap();
    story.polls.run_begins(&story.name);
    let answer = Answer::new(newest(9), Is::News);
    let verdict = story.polls.answered(&poll, Ok(answer), false, story.time());
    assert_eq!(verdict, Verdict::Nothing);
    story.wait(1);
    story.polls.run_ended(&story.name, true, story.time());
    story.wait(1);
    let polled = story.polls.polled(&story.name, story.time()).unwrap();
    assert_eq!(polled.every, 600);
    assert!(polled.asked.is_some() && polled.next.is_some());
    story.polls.soon(&story.name, story.now);
    assert_eq!(story.polls.due(story.now), 1);
}

#[test]
fn one_that_hangs_is_given_up_on_until_it_comes_back() {
    let mut story = Story::new();
    story.now += APART;
    let poll = story.begin().unwrap();
    assert_eq!(story.polls.next(story.now), Some(story.now + HANGS));
    assert!(story.polls.give_up_at(story.time()).is_empty());
    story.now += HANGS;
    assert_eq!(story.polls.give_up_at(story.time()), [story.name.clone()]);
    assert_eq!(story.polls.next(story.now), None);
    let failing = story.polls.polled(&story.name, story.time()).unwrap().failing;
    assert_eq!(
        failing.map(|failing| (failing.times, failing.failure)),
        Some((1, hangs()))
    );
    story.now += HANGS;
    assert!(story.polls.give_up_at(story.time()).is_empty(), "once");
    // The run that says so.
    story.run(false, true);
    assert_eq!((story.times(), story.polls.next(story.now)), (1, None));
    story.run(true, false);
    assert_eq!(story.times(), 0);
    assert!(story.begin().is_none() && story.polls.when(&story.name).is_none());
    let answer = Answer::new(newest(1), Is::News);
    let verdict = story.polls.answered(&poll, Ok(answer), false, story.time());
    assert_eq!(verdict, Verdict::Late);
    story.wait(1);
}
