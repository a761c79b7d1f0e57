use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::Path,
};

use ring::hmac;
use zeroize::Zeroizing;

use crate::{hex::hex, vault::Seal};

const FORM: u32 = 1;
/// No record is near that long.
const LONGEST: usize = 1 << 20;

/// Seals and opens records.
pub(super) struct Sealer {
    seal: Seal,
    /// The first line of each journal that this key seals.
    pub(super) line: String,
}

/// What a record says: a lease, or that one is gone.
const ADD: u8 = b'+';
const GONE: u8 = b'-';

pub(super) fn is_journal(path: &Path) -> bool {
    path.file_name().and_then(|n| n.to_str()).is_some_and(|n| n.starts_with("leases-") && n.ends_with(".sealed"))
}

impl Sealer {
    /// With a key of its own, derived from `key`: what this seals and the state file seals is told apart.
    pub(super) fn new(key: &[u8]) -> Result<Self, ()> {
        let derived = |purpose: &str| hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), purpose.as_bytes());
        let own = derived("remit leases");
        let name = hex(derived("remit leases name").as_ref().get(..8).unwrap_or_default());
        Ok(Self { seal: Seal::new(own.as_ref()).ok_or(())?, line: format!("remit leases {FORM} {name}\n") })
    }

    /// A record, to stand at `place`.
    pub(super) fn record(&self, place: u64, id: u64, lease: Option<&[u8]>) -> io::Result<Vec<u8>> {
        let mut text = vec![if lease.is_some() { ADD } else { GONE }];
        text.extend_from_slice(&id.to_be_bytes());
        text.extend_from_slice(lease.unwrap_or_default());
        let sealed = self.seal.close(&self.beside(place), text)?;
        let length = u32::try_from(sealed.len()).map_err(io::Error::other)?;
        Ok([&length.to_be_bytes()[..], &sealed].concat())
    }

    fn beside(&self, place: u64) -> Vec<u8> {
        [self.line.as_bytes(), &place.to_be_bytes()].concat()
    }

    /// The leases of a journal that are not gone, by number. What a crash left half written at its end
    /// was never used, and is passed over; anything else that is not as it was written is an error.
    pub(super) fn read(&self, path: &Path) -> Result<BTreeMap<u64, Zeroizing<Vec<u8>>>, String> {
        let mut bytes = Vec::new();
        fs::File::open(path).and_then(|mut f| f.read_to_end(&mut bytes)).map_err(|e| format!("cannot be read: {e}"))?;
        let mut leases = BTreeMap::new();
        if bytes.len() < self.line.len() && self.line.as_bytes().starts_with(&bytes) {
            return Ok(leases);
        }
        let Some(mut rest) = bytes.strip_prefix(self.line.as_bytes()) else {
            return Err("was sealed with another key, or is none".to_owned());
        };
        for place in 0.. {
            let Some((length, after)) = rest.split_first_chunk::<4>() else { break };
            let length = u32::from_be_bytes(*length) as usize;
            if length > LONGEST {
                return Err(format!("was edited, or is damaged, at record {place}"));
            }
            let Some((sealed, after)) = after.split_at_checked(length) else { break };
            rest = after;
            let (id, lease) = self.opened(place, sealed).ok_or_else(|| format!("was edited, or is damaged, at record {place}"))?;
            match lease {
                Some(lease) => drop(leases.insert(id, lease)),
                None => drop(leases.remove(&id)),
            }
        }
        Ok(leases)
    }

    fn opened(&self, place: u64, sealed: &[u8]) -> Option<(u64, Option<Zeroizing<Vec<u8>>>)> {
        let open = Zeroizing::new(self.seal.open(&self.beside(place), sealed)?);
        let (what, rest) = open.split_first()?;
        let (id, lease) = rest.split_first_chunk::<8>()?;
        let id = u64::from_be_bytes(*id);
        match *what {
            ADD => Some((id, Some(Zeroizing::new(lease.to_vec())))),
            GONE => Some((id, None)),
            _ => None,
        }
    }
}

impl std::fmt::Debug for Sealer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sealer")
    }
}
