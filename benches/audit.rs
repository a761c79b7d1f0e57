//! What recording costs: `cargo bench --bench audit [-- SECONDS [IN_FLIGHT]]`. CPU is the process's own, all threads.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "this is test code")]

#[path = "../tests/audit_support/mod.rs"]
mod audit_support;

use std::{
    fs::{self, File},
    io::Write,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use audit_support::{Dir, Sample, call, config, new_id, outcome};
use remit::{
    audit::{Audit, Durability, verify_dir},
    call::Recorder,
};

fn main() {
    let mut numbers = std::env::args().filter_map(|a| a.parse::<f64>().ok());
    let seconds = numbers.next().unwrap_or(2.0);
    let only = numbers.next();
    let run = Duration::from_secs_f64(seconds);
    appended();
    for in_flight in [1, 8, 64, 256].into_iter().filter(|n| only.is_none_or(|o| o == *n as f64)) {
        let buffered = rate(in_flight, Durability::Buffered, run);
        // A disk is rarely as fast a second later: measured on both sides.
        let before = fdatasync();
        let synced = rate(in_flight, Durability::Synced, run);
        let sync = before.midpoint(fdatasync());
        let latency = in_flight as f64 / buffered.rate;
        let ideal = buffered.rate.min(in_flight as f64 / (sync + latency));
        println!(
            "{in_flight:>4} in flight: buffered {:>9.0}/s {:>6.2} µs CPU a call | synced {:>8.0}/s {:>6.2} µs CPU a call, {:.2} of what can be at {:.0} µs a sync",
            buffered.rate,
            buffered.cpu,
            synced.rate,
            synced.cpu,
            synced.rate / ideal,
            sync * 1e6
        );
    }
    verify(run);
}

/// Rounds of appending; the best one was not disturbed.
const ROUNDS: u64 = 500;

struct Rate {
    rate: f64,
    /// Microseconds a call.
    cpu: f64,
}

/// Both records of a call formatted, hashed and appended, nobody waiting for a write.
fn appended() {
    let dir = Dir::new("bench-append");
    let sample = Sample::default();
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let audit = Audit::open(&config(&dir.0)).unwrap();
    let mut best = f64::MAX;
    let calls: u32 = 200;
    for _ in 0..ROUNDS {
        let mut waits: Vec<_> = (0..calls).map(|_| (new_id(), None)).collect();
        let began = Instant::now();
        for (id, wait) in &mut waits {
            let record = sample.record(*id);
            let audit = &audit;
            let mut decision = Box::pin(async move { audit.decision(&record, Durability::Buffered).await });
            // Polled once, it has appended and waits its turn.
            let polled = futures_util::FutureExt::now_or_never(&mut decision);
            assert!(polled.is_none());
            audit.outcome(&outcome(*id));
            *wait = Some(decision);
        }
        best = best.min(began.elapsed().as_secs_f64() / f64::from(calls));
        runtime.block_on(async {
            for (_, wait) in waits {
                wait.unwrap().await.unwrap();
            }
        });
    }
    println!("decision + outcome appended      {:>9.0} ns (formatted, hashed, copied; best of many)", best * 1e9);
    let bytes = fs::metadata(&audit_support::files(&dir.log())[0]).unwrap().len();
    println!("bytes a call                     {:>9}", bytes / (ROUNDS * u64::from(calls)));
}

fn fdatasync() -> f64 {
    let dir = Dir::new("bench-sync");
    let mut file = File::options().append(true).create(true).open(dir.0.join("x")).unwrap();
    let rounds = 100;
    let began = Instant::now();
    for _ in 0..rounds {
        file.write_all(&[b'x'; 1000]).unwrap();
        file.sync_data().unwrap();
    }
    began.elapsed().as_secs_f64() / f64::from(rounds)
}

/// Calls a second on one worker, as the proxy runs one a core.
fn rate(in_flight: usize, durability: Durability, run: Duration) -> Rate {
    let dir = Dir::new("bench-rate");
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let (calls, took, cpu) = runtime.block_on(async {
        let audit = Audit::open(&config(&dir.0)).unwrap();
        let (stop, count) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let mut tasks = tokio::task::JoinSet::new();
        let (began, cpu) = (Instant::now(), cpu());
        for _ in 0..in_flight {
            let (audit, stop, count) = (audit.clone(), stop.clone(), count.clone());
            tasks.spawn(async move {
                let sample = Sample::default();
                while !stop.load(Ordering::Relaxed) {
                    call(&audit, &sample, durability).await.unwrap();
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
        tokio::time::sleep(run).await;
        stop.store(true, Ordering::Relaxed);
        while tasks.join_next().await.is_some() {}
        (count.load(Ordering::Relaxed) as f64, began.elapsed().as_secs_f64(), self::cpu() - cpu)
    });
    Rate { rate: calls / took, cpu: cpu / calls * 1e6 }
}

/// Seconds of CPU this process has used, in its threads that still run.
fn cpu() -> f64 {
    let tasks = fs::read_dir("/proc/self/task").unwrap();
    let nanos = tasks.filter_map(|t| {
        let text = fs::read_to_string(t.ok()?.path().join("schedstat")).ok()?;
        text.split(' ').next()?.parse::<f64>().ok()
    });
    nanos.sum::<f64>() / 1e9
}

fn verify(run: Duration) {
    let dir = Dir::new("bench-verify");
    fill(&dir.0, run);
    let report = verify_dir(&dir.log(), None).unwrap();
    assert!(report.verified());
    println!("verified                         {:>9.0} MB/s, {} records", report.speed(), report.chains[0].records);
}

fn fill(dir: &Path, run: Duration) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        let audit = Audit::open(&config(dir)).unwrap();
        let began = Instant::now();
        while began.elapsed() < run {
            let sample = Sample::default();
            let calls = (0..64).map(|_| call(&audit, &sample, Durability::Buffered));
            futures_util::future::join_all(calls).await;
        }
    });
}
