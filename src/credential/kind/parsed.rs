//! A secret of the configuration that is more than its text, such as a key.

use std::{fmt, sync::Arc};

use arc_swap::ArcSwap;

use crate::{
    config::SecretSource,
    credential::source::{Env, Watched},
    jose::{Algorithm, SigningKey},
    problem::Problem,
};

type Parse<K> = Box<dyn Fn(&str) -> Result<K, Problem> + Send + Sync>;

/// What a watched text says, read once for each value it has.
pub(super) struct Parsed<K> {
    text: Watched,
    parse: Parse<K>,
    value: ArcSwap<K>,
}

impl<K> Parsed<K> {
    /// # Errors
    /// When the secret cannot be read, or is not what `parse` wants.
    pub(super) fn new(source: &SecretSource, env: Env<'_>, parse: Parse<K>) -> Result<Self, Problem> {
        let text = Watched::text(source, env)?;
        let value = text.with(&parse)?;
        Ok(Self { text, parse, value: ArcSwap::from_pointee(value) })
    }

    /// What is in force.
    pub(super) fn value(&self) -> Arc<K> {
        self.value.load_full()
    }

    pub(super) fn is_file(&self) -> bool {
        self.text.is_file()
    }

    /// As [`Watched::refresh`].
    ///
    /// # Errors
    /// What is wrong with the file.
    pub(super) fn refresh(&self) -> Result<bool, Problem> {
        let mut fresh = None;
        let changed = self.text.refresh(|text| {
            fresh = Some((self.parse)(text)?);
            Ok(())
        })?;
        if let Some(fresh) = fresh.filter(|_| changed) {
            self.value.store(Arc::new(fresh));
        }
        Ok(changed)
    }
}

impl<K> fmt::Debug for Parsed<K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Parsed").field(&self.text).finish()
    }
}

/// A key that signs with RS256, which is all that `who` takes.
///
/// # Errors
/// What is wrong with the key.
pub(super) fn rsa(pem: &str, who: &str) -> Result<SigningKey, Problem> {
    let help = format!("{who} takes RS256 alone: give the RSA key that it made");
    let key = SigningKey::from_pem(pem.as_bytes()).map_err(|fault| Problem::new(fault.to_string()).help(help.clone()))?;
    match key.algorithm() {
        Algorithm::Rs256 => Ok(key),
        other => Err(Problem::new(format!("the key signs with {other}")).help(help)),
    }
}

/// Lines of a key's text that nobody but who holds the key can have: the first half of an RSA key is its
/// public part.
pub(super) fn show_key(pem: &str, see: &mut dyn FnMut(&str)) {
    let lines: Vec<&str> = pem.lines().map(str::trim).filter(|l| l.len() >= 64 && !l.contains('-')).collect();
    lines.iter().skip(lines.len() / 2).take(4).for_each(|line| see(line));
}

#[cfg(test)]
mod tests {
    use super::*;

    const RSA: &str = include_str!("../../jose/fixture/rsa.pem");

    #[test]
    fn another_key_than_rsa_is_named_as_such() {
        assert_eq!(rsa(RSA, "GitHub").unwrap().algorithm(), Algorithm::Rs256);
        let ec = crate::jose::fixture::Issuer::new(Algorithm::Es256, "k");
        let problem = rsa(&crate::jose::fixture::pem("PRIVATE KEY", ec.pkcs8()), "GitHub").unwrap_err().to_string();
        assert!(problem.contains("signs with ES256") && problem.contains("GitHub takes RS256 alone"), "{problem}");
        let small = rsa(include_str!("../../jose/fixture/rsa1024.pem"), "Google").unwrap_err().to_string();
        assert!(small.contains("fewer than 2048 bits") && small.contains("Google takes RS256 alone"), "{small}");
    }

    #[test]
    fn a_keys_private_lines_are_shown_and_no_public_one() {
        let mut seen = Vec::new();
        show_key(RSA, &mut |line| seen.push(line.to_owned()));
        assert_eq!(seen.len(), 4);
        // PKCS#8 of 2048 bits: modulus and exponent end before byte 320, which is in line 7 of 48 bytes each.
        let public: Vec<&str> = RSA.lines().skip(1).take(7).collect();
        assert!(seen.iter().all(|line| line.len() == 64 && RSA.contains(line.as_str()) && !public.contains(&line.as_str())));
    }
}
