//! HTTP/1.1 messages read from bytes, without a library that could repair them.

use tokio::io::{AsyncRead, AsyncReadExt as _};

/// Reads until `buffer` holds `end`; the length up to and with it. None at the end of the stream.
pub async fn until<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, end: &[u8]) -> Option<usize> {
    loop {
        if let Some(at) = memchr::memmem::find(buffer, end) {
            return Some(at + end.len());
        }
        let mut more = vec![0; 16 << 10];
        match stream.read(&mut more).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&more[..n]),
            _ => return None,
        }
    }
}

pub async fn exactly<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>, length: usize) -> Option<Vec<u8>> {
    while buffer.len() < length {
        let mut more = vec![0; 16 << 10];
        match stream.read(&mut more).await {
            Ok(n) if n > 0 => buffer.extend_from_slice(&more[..n]),
            _ => return None,
        }
    }
    Some(buffer.drain(..length).collect())
}

/// One chunk; empty at the last. Its extensions are dropped.
pub async fn chunk<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Vec<u8>> {
    let line = until(stream, buffer, b"\r\n").await?;
    let line: Vec<u8> = buffer.drain(..line).collect();
    let size = std::str::from_utf8(&line).ok()?.trim();
    let size = usize::from_str_radix(size.split(';').next()?.trim(), 16).ok()?;
    if size == 0 {
        return Some(vec![]);
    }
    let mut data = exactly(stream, buffer, size + 2).await?;
    data.truncate(size);
    Some(data)
}

/// The fields behind the last chunk.
pub async fn trailers<S: AsyncRead + Unpin>(stream: &mut S, buffer: &mut Vec<u8>) -> Option<Vec<(String, String)>> {
    let mut all = vec![];
    loop {
        let line = until(stream, buffer, b"\r\n").await?;
        let line: Vec<u8> = buffer.drain(..line).collect();
        if line == b"\r\n" {
            return Some(all);
        }
        all.extend(fields(&line));
    }
}

/// `Name: value` lines; names in lower case.
pub fn fields(lines: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(lines).into_owned();
    text.split("\r\n").filter_map(|l| l.split_once(':')).map(|(n, v)| (n.to_ascii_lowercase(), v.trim().to_owned())).collect()
}

pub fn field<'f>(fields: &'f [(String, String)], name: &str) -> Option<&'f str> {
    fields.iter().find(|(n, _)| n == name).map(|(_, v)| &**v)
}
