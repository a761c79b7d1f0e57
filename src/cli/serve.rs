use std::{path::PathBuf, process::ExitCode};

use tokio::signal::unix::{SignalKind, signal};

use crate::{
    app::{App, Reloader},
    cli::{COULD_NOT, NO, fail},
    config::Config,
    telemetry,
};

/// Run the sidecar or gateway until it is told to stop.
///
/// SIGTERM and SIGINT drain; SIGHUP and a change of any file reload, all or nothing.
///
/// Example: remit serve --config /etc/remit/remit.yaml
#[derive(Debug, clap::Args)]
#[command(verbatim_doc_comment)]
pub struct Args {
    /// The config file.
    #[arg(long, value_name = "FILE")]
    config: PathBuf,
}

pub fn run(args: Args) -> ExitCode {
    telemetry::start("info");
    let config = match Config::load(&args.config) {
        Ok(config) => config,
        Err(problems) => return fail(NO, &problems),
    };
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(COULD_NOT, &error),
    };
    runtime.block_on(async {
        // Spawned, so that it runs on a worker like everything it starts.
        match tokio::spawn(serve(config, args.config)).await {
            Ok(code) => code,
            Err(error) => fail(COULD_NOT, &error),
        }
    })
}

async fn serve(config: Config, path: PathBuf) -> ExitCode {
    if config.listen.forward.is_none() && config.listen.inbound.is_none() {
        return fail(NO, &"listen.forward: nothing to listen on; set it to an address such as 127.0.0.1:8080");
    }
    let signals = (signal(SignalKind::terminate()), signal(SignalKind::interrupt()));
    let (Ok(mut terminate), Ok(mut interrupt)) = signals else { return fail(COULD_NOT, &"signals cannot be received") };
    let app = match App::build(config) {
        Ok(app) => app,
        Err(problems) => return fail(NO, &problems),
    };
    let reloader = match Reloader::new(app.house().clone(), path) {
        Ok(reloader) => reloader,
        Err(error) => return fail(COULD_NOT, &format!("SIGHUP cannot be received: {error}")),
    };
    if let Some(address) = app.address() {
        tracing::info!(%address, "forward proxy listening");
    }
    if let Some(address) = app.inbound_address() {
        tracing::info!(%address, "inbound listening");
    }
    if let Some(address) = app.admin_address() {
        tracing::info!(%address, "admin listening");
    }
    tokio::spawn(reloader.run());
    app.run(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        tracing::info!("draining");
    })
    .await;
    ExitCode::SUCCESS
}
