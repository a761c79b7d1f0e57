//! Law 4: on the record before it leaves.

mod support;

use support::{Do, Lab, Settings, Upstream, agent, log::Log};

/// An upstream that, when a request arrives, looks whether its decision is on the record.
async fn watching(lab: &Lab) -> Upstream {
    let log = Log(lab.dir.join("audit"));
    let config = lab.tls(support::HOST, &[b"http/1.1"]);
    Upstream::tls(config, move |request| {
        let target = request.target();
        let found = log.of_kind("decision").iter().any(|d| d["path"] == target && d["decision"] == "allow");
        Do::ok(if found { "on record" } else { "NOT on record" })
    })
    .await
}

#[tokio::test]
async fn an_allowed_call_is_on_record_when_it_arrives() {
    let lab = Lab::new("law4-allowed");
    let upstream = watching(&lab).await;
    let remit = lab.start(&Settings::to(upstream.address));
    let answer = agent::ask(&remit, agent::get("/items/7")).await;
    assert_eq!((answer.status, answer.text().as_str()), (200, "on record"));
    let pair = remit.log().only().await;
    assert_eq!(pair.outcome["outcome"], "complete");
    remit.log().verify();
}
