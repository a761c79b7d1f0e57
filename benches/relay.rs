//! Remit beside a bare relay: the same hyper and rustls, no authority. One run, one core each.
//!
//! `cargo bench --bench relay [-- ROUNDS]`. Relay and Remit each have one worker, both on the first
//! core; upstream and load share the second. Rounds alternate, so that what else the machine does
//! falls on both. Judge by CPU per call: the calls per second also measure the second core.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "what is not as expected ends a bench")]

mod relay_support;

use std::time::{Duration, Instant};

use relay_support::{cpu, load, proxy, relay, runtime, upstream};

const ROUND: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 32;

struct Round {
    calls_per_second: f64,
    cpu_us: f64,
}

fn main() {
    let rounds: usize = std::env::args().skip(1).find_map(|a| a.parse().ok()).unwrap_or(5);
    let (upstreams, loads) = (runtime("upstream", 1), runtime("load", 1));
    let (relays, remits) = (runtime("relay", 0), runtime("remit", 0));
    let upstream = upstreams.block_on(upstream::start());
    let relay = relays.block_on(relay::start(&upstream));
    let remit = remits.block_on(async { tokio::spawn(proxy::start(upstream)).await.unwrap() });

    let mut measured: [Vec<Round>; 2] = [Vec::new(), Vec::new()];
    for _ in 0..rounds {
        for ((name, target), rounds) in [("relay", &relay), ("remit", &remit)].into_iter().zip(&mut measured) {
            let clients = loads.block_on(load::connect(target, CONNECTIONS));
            let (began, before) = (Instant::now(), cpu(name));
            let calls = loads.block_on(load::run(clients, ROUND));
            let seconds = began.elapsed().as_secs_f64();
            let used = cpu(name) - before;
            rounds.push(Round { calls_per_second: calls as f64 / seconds, cpu_us: used.as_secs_f64() * 1e6 / calls as f64 });
        }
    }
    let [relay, remit] = &measured;
    for (name, rounds) in [("relay", relay), ("remit", remit)] {
        println!(
            "{name}: {:>8.0} calls/s  {:>6.2} µs CPU a call (medians)",
            median(rounds, |r| r.calls_per_second),
            median(rounds, |r| r.cpu_us)
        );
    }
    let pairs: Vec<(&Round, &Round)> = remit.iter().zip(relay).collect();
    println!(
        "ratio: {:.2} of the relay's calls per second, {:.2} by CPU",
        median(&pairs, |(a, b)| a.calls_per_second / b.calls_per_second),
        median(&pairs, |(a, b)| b.cpu_us / a.cpu_us)
    );
    println!("authority adds {:.2} µs CPU a call", median(&pairs, |(a, b)| a.cpu_us - b.cpu_us));
    std::process::exit(0);
}

fn median<T>(all: &[T], of: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = all.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
