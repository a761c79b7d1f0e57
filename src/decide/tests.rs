use super::*;

#[test]
fn probe() {
    let policies = load::shipped();
    let data: serde_json::Value = serde_json::from_str(&std::fs::read_to_string("/tmp/data.json").unwrap()).unwrap();
    let inp: serde_json::Value = serde_json::from_str(&std::fs::read_to_string("/tmp/in.json").unwrap()).unwrap();
    for r in [
        "drifted",
        "links",
        "held",
        "coverable",
        "approvals",
        "limits",
        "guard_deny",
        "guard_ask",
        "guard_label",
        "credential",
        "refused",
        "decision",
    ] {
        let e =
            engine::Engine::build(&policies, input::json(&data), &format!("data.remit.authz.{r}"), true, Duration::from_secs(5)).unwrap();
        println!("{r}: {:?} {:?}", e.kind(), e.evaluate(input::json(&inp)).map(|v| input::to_json(&v).to_string()));
    }
}
