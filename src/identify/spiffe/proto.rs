//! As much of protobuf's wire format as the Workload API's messages are made of.

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Wire<'b> {
    /// Length-delimited: bytes, text, a message.
    Bytes(&'b [u8]),
    /// Whatever else; nothing here is read from it.
    Other,
}

/// Gives each field with its number, in order.
pub(super) fn fields<'b>(mut bytes: &'b [u8], take: &mut dyn FnMut(u64, Wire<'b>) -> Result<(), String>) -> Result<(), String> {
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let wire = match tag & 7 {
            0 => {
                varint(&mut bytes)?;
                Wire::Other
            }
            1 => {
                cut(&mut bytes, 8)?;
                Wire::Other
            }
            2 => {
                let length = varint(&mut bytes)?;
                Wire::Bytes(cut(&mut bytes, length)?)
            }
            5 => {
                cut(&mut bytes, 4)?;
                Wire::Other
            }
            other => return Err(format!("wire type {other} is not read here")),
        };
        match tag >> 3 {
            0 => return Err("a field has the number 0".to_owned()),
            number => take(number, wire)?,
        }
    }
    Ok(())
}

/// A length-delimited field.
pub(super) fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    let mut length = bytes.len();
    while length >= 0x80 {
        out.push((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.push(length as u8);
    out.extend_from_slice(bytes);
    out
}

/// An entry of `map<string, bytes>`: its key is field 1, its value field 2; absent is empty.
pub(super) fn entry(bytes: &[u8]) -> Result<(String, Vec<u8>), String> {
    let (mut key, mut value) = (String::new(), Vec::new());
    fields(bytes, &mut |number, wire| {
        match (number, wire) {
            (1, Wire::Bytes(b)) => key = text(b)?,
            (2, Wire::Bytes(b)) => value = b.to_vec(),
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, value))
}

pub(super) fn text(bytes: &[u8]) -> Result<String, String> {
    std::str::from_utf8(bytes).map(str::to_owned).map_err(|_| "a text is not UTF-8".to_owned())
}

fn varint(bytes: &mut &[u8]) -> Result<u64, String> {
    let mut value: u64 = 0;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first().ok_or("it ends within a number")?;
        *bytes = rest;
        let part = u64::from(byte & 0x7f);
        if shift == 63 && part > 1 {
            break;
        }
        value |= part << shift;
        if byte & 0x80 == 0 {
            return Ok(value);
        }
    }
    Err("a number is longer than 64 bits".to_owned())
}

fn cut<'b>(bytes: &mut &'b [u8], length: u64) -> Result<&'b [u8], String> {
    let length = usize::try_from(length).map_err(|_| "a field is too long")?;
    let (head, rest) = bytes.split_at_checked(length).ok_or("it ends within a field")?;
    *bytes = rest;
    Ok(head)
}

#[cfg(test)]
pub(super) mod write {
    //! The other direction, for tests.

    pub(in super::super) fn field(number: u64, bytes: &[u8]) -> Vec<u8> {
        let mut out = varint(number << 3 | 2);
        out.extend(varint(bytes.len() as u64));
        out.extend(bytes);
        out
    }

    pub(in super::super) fn varint(mut value: u64) -> Vec<u8> {
        let mut out = Vec::new();
        while value >= 0x80 {
            out.push(value as u8 | 0x80);
            value >>= 7;
        }
        out.push(value as u8);
        out
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::{write::field, *};

    #[test]
    fn fields_come_in_order_and_what_is_not_read_is_passed_over() {
        let bytes =
            [field(1, b"a"), vec![0x10, 0x96, 1], vec![0x1d, 0, 0, 0, 0], vec![0x21, 0, 0, 0, 0, 0, 0, 0, 0], field(200, b"")].concat();
        let mut seen = Vec::new();
        fields(&bytes, &mut |number, wire| {
            seen.push((number, wire));
            Ok(())
        })
        .unwrap();
        assert_eq!(seen, [(1, Wire::Bytes(b"a")), (2, Wire::Other), (3, Wire::Other), (4, Wire::Other), (200, Wire::Bytes(b""))]);
    }

    #[test]
    fn what_is_cut_off_or_too_long_is_refused() {
        for bad in
            [&[0x0a][..], &[0x0a, 5, 1], &[0x80], &[0x0b], &[0x02, 0], &[0x0d, 1], &[0x08, 255, 255, 255, 255, 255, 255, 255, 255, 255, 2]]
        {
            assert!(fields(bad, &mut |_, _| Ok(())).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = fields(&bytes, &mut |_, wire| match wire {
                Wire::Bytes(inner) => entry(inner).map(drop),
                Wire::Other => Ok(()),
            });
        }
    }
}
