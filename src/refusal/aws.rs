//! AWS words errors by protocol: XML for query and REST-XML services, JSON or CBOR for the others.

use http::StatusCode;
use serde_json::json;

use super::{
    render::{Context, Worded},
    text::xml,
};
use crate::call::Host;

pub(super) fn word(cx: &Context<'_>, status: StatusCode, message: &str) -> Worded {
    let content_type = cx.field("content-type");
    let id = cx.decision.to_string();
    if cx.field("smithy-protocol") == "rpc-v2-cbor" {
        let mut worded = Worded::new("application/cbor", cbor_map(&[("__type", &code(status, "Exception")), ("message", message)]));
        worded.fields.push(("smithy-protocol", "rpc-v2-cbor".into()));
        worded.fields.push(("x-amzn-requestid", id));
        return worded;
    }
    if content_type.starts_with("application/x-www-form-urlencoded") {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<ErrorResponse><Error><Type>{}</Type><Code>{}</Code><Message>{}</Message></Error><RequestId>{id}</RequestId></ErrorResponse>",
            if status.is_server_error() { "Receiver" } else { "Sender" },
            code(status, ""),
            xml(message),
        );
        return Worded::new("text/xml", body.into_bytes());
    }
    if cx.host.is_some_and(speaks_xml) {
        let body = format!(
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{}</Code><Message>{}</Message><RequestId>{id}</RequestId></Error>",
            code(status, ""),
            xml(message),
        );
        let mut worded = Worded::new("application/xml", body.into_bytes());
        worded.fields.push(("x-amz-request-id", id));
        return worded;
    }
    let code = code(status, "Exception");
    let mut worded = Worded::json(&json!({"__type": code, "message": message, "Message": message}));
    worded.content_type = if content_type.starts_with("application/x-amz-json-1.0") {
        "application/x-amz-json-1.0"
    } else if content_type.starts_with("application/x-amz-json-1.1") {
        "application/x-amz-json-1.1"
    } else {
        "application/json"
    };
    worded.fields.push(("x-amzn-errortype", code));
    worded.fields.push(("x-amzn-requestid", id));
    worded
}

/// The code that AWS's own services give for such a status; JSON services end it in `Exception`.
fn code(status: StatusCode, ending: &str) -> String {
    let name = match status.as_u16() {
        403 => "AccessDenied",
        407 => "UnrecognizedClient",
        413 => "RequestEntityTooLarge",
        429 => "Throttling",
        500.. => "ServiceUnavailable",
        _ => "InvalidRequest",
    };
    format!("{name}{ending}")
}

/// The four REST-XML services, by their hosts: S3 (also per bucket), S3 Control, CloudFront, Route 53.
fn speaks_xml(host: &Host) -> bool {
    host.as_str().split('.').any(|label| {
        matches!(label, "s3" | "s3-control" | "s3-accelerate" | "cloudfront" | "route53")
            || label.starts_with("s3-")
            || label.starts_with("s3express-")
    })
}

/// RFC 8949: a map of short texts.
fn cbor_map(members: &[(&str, &str)]) -> Vec<u8> {
    // At most two members here; a map of up to 23 has its length in the first byte.
    let mut out = vec![0xa0 | u8::try_from(members.len()).unwrap_or(0)];
    for (key, value) in members {
        cbor_text(key, &mut out);
        cbor_text(value, &mut out);
    }
    out
}

fn cbor_text(text: &str, out: &mut Vec<u8>) {
    match u16::try_from(text.len()) {
        Ok(n @ 0..=23) => out.push(0x60 | n as u8),
        Ok(n @ 24..=255) => out.extend([0x78, n as u8]),
        Ok(n) => {
            out.push(0x79);
            out.extend(n.to_be_bytes());
        }
        Err(_) => {
            out.push(0x7a);
            out.extend(u32::try_from(text.len()).unwrap_or(0).to_be_bytes());
        }
    }
    out.extend_from_slice(text.as_bytes());
}
