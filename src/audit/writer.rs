//! The thread that syncs in groups, writes what nobody waits for, signs, rotates and tidies.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use time::OffsetDateTime;

use super::{
    log::{Log, Syncs},
    record,
    retain::Retention,
};

/// Records for which nobody waits are written within twice this.
const TICK: Duration = Duration::from_millis(20);

/// A busy log is signed this often.
const SEAL: Duration = Duration::from_secs(1);

/// A file that could not be rotated is tried again, and old files are looked for, this often.
const ROTATE_RETRY: Duration = Duration::from_secs(10);
const TIDY: Duration = Duration::from_secs(3600);

/// The longest wait for a group to gather.
const GATHER: Duration = Duration::from_millis(2);

/// The writer's own state: when it did what.
#[derive(Debug)]
pub(super) struct Writer {
    log: Arc<Log>,
    stop: Arc<AtomicBool>,
    retention: Vec<Retention>,
    flushed: Instant,
    sealed: Instant,
    rotate_at: Instant,
    tidied: Instant,
    gather: Gather,
}

/// Learns whether waiting for a group pays.
///
/// Calls let go together come back together: a sync begun for the first of them makes the others
/// wait for two. So the next sync waits, at most as long as one takes, until most are back; where
/// they do not come back in that time, it stops waiting for a while.
#[derive(Debug)]
struct Gather {
    sync: Duration,
    rounds_off: u32,
    penalty: u32,
}

impl Writer {
    pub(super) fn new(log: Arc<Log>, stop: Arc<AtomicBool>, retention: Vec<Retention>) -> Self {
        let now = Instant::now();
        let gather = Gather { sync: Duration::from_micros(200), rounds_off: 0, penalty: 1 };
        Self { log, stop, retention, flushed: now, sealed: now, rotate_at: now, tidied: now, gather }
    }

    /// Runs until told to stop; what is pending then is left to whoever stopped it.
    pub(super) fn run(mut self) {
        while !self.stop.load(Ordering::Acquire) {
            if !self.log.syncs.lock().waiters.is_empty() {
                self.sync_group();
            }
            if self.log.asked() {
                let _ = self.log.flush();
            }
            self.tick();
            self.sleep();
        }
    }

    /// Syncs for all who wait, then waits for most of them to come back.
    fn sync_group(&mut self) {
        self.log.syncs.lock().wake_at = usize::MAX;
        let began = Instant::now();
        if self.log.sync().is_err() {
            self.log.fail_syncs();
            return;
        }
        self.gather.took(began.elapsed());
        let (released, waiting) = self.log.release();
        let expected = released + waiting;
        if expected <= 1 || waiting == expected || !self.gather.pays() {
            return;
        }
        let longest = self.gather.sync.min(GATHER);
        let most = self.gathered(expected - expected / 4, longest);
        // The last few get less time: one that does not come back must not hold up the others.
        let all = if most * 4 >= expected * 3 { self.gathered(expected, longest / 8) } else { most };
        self.gather.learn(all.saturating_sub(waiting), released);
    }

    /// Waits until `want` calls wait for a sync, at most for `longest`; how many do.
    fn gathered(&self, want: usize, longest: Duration) -> usize {
        let deadline = Instant::now() + longest;
        loop {
            let gathered = {
                let mut syncs = self.log.syncs.lock();
                syncs.wake_at = want;
                syncs.waiters.len()
            };
            let left = deadline.saturating_duration_since(Instant::now());
            if gathered >= want || left.is_zero() || self.stop.load(Ordering::Acquire) {
                return gathered;
            }
            thread::park_timeout(left);
        }
    }

    fn tick(&mut self) {
        let now = Instant::now();
        if now.duration_since(self.flushed) >= TICK {
            self.flushed = now;
            if self.log.backlog() > 0 || self.log.failing() {
                let _ = self.log.flush();
            }
            if self.log.full() && now >= self.rotate_at && self.log.rotate() != Ok(true) {
                self.rotate_at = now + ROTATE_RETRY;
            }
        }
        if now.duration_since(self.sealed) >= SEAL && self.log.unsealed() && !self.log.failing() {
            self.sealed = now;
            seal(&self.log, "checkpoint");
            let _ = self.log.sync();
            self.log.release();
        }
        if now.duration_since(self.tidied) >= TIDY {
            self.tidied = now;
            self.retention.iter().for_each(|r| r.tidy(false));
        }
    }

    fn sleep(&self) {
        {
            let mut syncs = self.log.syncs.lock();
            if !syncs.waiters.is_empty() {
                return;
            }
            syncs.wake_at = 1;
        }
        let busy = |log: &Log| log.backlog() > 0 || log.failing() || log.asked();
        if busy(&self.log) {
            thread::park_timeout(TICK);
            return;
        }
        self.log.idle.store(true, Ordering::SeqCst);
        // Whoever appended before the flag was set did not wake us.
        if !busy(&self.log) && !self.stop.load(Ordering::SeqCst) {
            thread::park_timeout(if self.log.unsealed() { SEAL.saturating_sub(self.sealed.elapsed()).max(TICK) } else { TIDY });
        }
        self.log.idle.store(false, Ordering::SeqCst);
    }
}

impl Gather {
    fn took(&mut self, sync: Duration) {
        self.sync = (self.sync * 7 + sync) / 8;
    }

    fn pays(&mut self) -> bool {
        let pays = self.rounds_off == 0;
        self.rounds_off = self.rounds_off.saturating_sub(1);
        pays
    }

    fn learn(&mut self, back: usize, released: usize) {
        if back * 2 >= released {
            self.penalty = 1;
        } else {
            self.rounds_off = self.penalty;
            self.penalty = (self.penalty * 2).min(64);
        }
    }
}

impl Syncs {
    pub(super) const fn new() -> Self {
        Self { waiters: Vec::new(), wake_at: 1, ended: false }
    }
}

/// Appends a signed record of this kind.
pub(super) fn seal(log: &Log, kind: &str) {
    log.append_signed(|out, open| {
        record::signed(out, kind, &log.chain, OffsetDateTime::now_utc());
        record::count(out, "open", open);
        out.push(b'}');
    });
}
