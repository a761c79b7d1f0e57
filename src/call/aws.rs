//! What every room that meets Amazon's hosts must read in them alike.

/// Where Amazon's partitions serve APIs (botocore's `partitions.json`), plain and dual-stack.
pub const ENDINGS: [&str; 14] = [
    "amazonaws.com",
    "api.aws",
    "amazonaws.com.cn",
    "api.amazonwebservices.com.cn",
    "amazonaws.eu",
    "api.amazonwebservices.eu",
    "c2s.ic.gov",
    "api.aws.ic.gov",
    "sc2s.sgov.gov",
    "api.aws.scloud",
    "csp.hci.ic.gov",
    "api.aws.hci.ic.gov",
    "cloud.adc-e.uk",
    "api.cloud-aws.adc-e.uk",
];

/// `us-east-1`, `us-gov-west-1`, `eusc-de-east-1`: no name of a service looks so.
#[must_use]
pub fn is_region(label: &str) -> bool {
    let mut parts = label.split('-');
    let (Some(first), Some(last)) = (parts.next(), parts.next_back()) else { return false };
    let middle = parts.clone().count();
    let letters = |p: &str| !p.is_empty() && p.bytes().all(|b| b.is_ascii_lowercase());
    (2..=4).contains(&first.len())
        && letters(first)
        && (1..=3).contains(&middle)
        && parts.all(|p| p.len() > 1 && letters(p))
        && (1..=2).contains(&last.len())
        && last.bytes().all(|b| b.is_ascii_digit())
}
