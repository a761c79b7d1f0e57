/// Checks a SPIFFE ID (SPIFFE-ID §2), `spiffe://trust-domain/path`, which is compared byte for byte;
/// answers its trust domain.
///
/// # Errors
/// What is wrong with it, in words that go on after "it is no SPIFFE ID".
pub fn spiffe_domain(text: &str) -> Result<&str, &'static str> {
    let rest = text.strip_prefix("spiffe://").ok_or("it does not begin with `spiffe://`")?;
    if text.len() > 2048 {
        return Err("it is longer than 2048 bytes");
    }
    let (domain, path) = rest.split_once('/').ok_or("it has no path, so it names no workload")?;
    if domain.is_empty() || domain.len() > 255 {
        return Err("its trust domain is empty or longer than 255 bytes");
    }
    if !domain.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_')) {
        return Err("its trust domain may hold only a-z, 0-9, `.`, `-` and `_`");
    }
    for segment in path.split('/') {
        if matches!(segment, "" | "." | "..") {
            return Err("its path has an empty, `.` or `..` segment");
        }
        if !segment.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_')) {
            return Err("its path may hold only letters, digits, `.`, `-` and `_`");
        }
    }
    Ok(domain)
}
