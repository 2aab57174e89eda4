#![allow(clippy::unwrap_used)]

use super::*;

const KEY: &str = "0123456789ABCDEF";
const PRIMARY: &str = "AAAABBBBCCCCDDDDEEEEFFFF0000111122223333";

fn valid() -> String {
    format!("[GNUPG:] VALIDSIG SUB 2026-01-02 1767312000 0 4 0 22 10 00 {PRIMARY}\n")
}

#[test]
fn a_good_signature_names_the_primary_key() {
    let said = format!("[GNUPG:] NEWSIG\n[GNUPG:] GOODSIG {KEY} A Maker <a@b>\n{}", valid());
    let wanted = Signer { fingerprint: PRIMARY.to_owned(), name: "A Maker <a@b>".to_owned() };
    assert_eq!(judge(&said), Ok(wanted));
}

#[test]
fn all_else_is_told_apart() {
    let named = format!("{KEY} (A Maker)");
    for (said, wanted) in [
        (format!("[GNUPG:] BADSIG {KEY} A Maker\n"), SignatureError::Bad(named.clone())),
        (
            format!("[GNUPG:] EXPKEYSIG {KEY} A Maker\n{}", valid()),
            SignatureError::Expired(named.clone()),
        ),
        (
            format!("[GNUPG:] EXPSIG {KEY} A Maker\n{}", valid()),
            SignatureError::Expired(named.clone()),
        ),
        (
            format!("[GNUPG:] REVKEYSIG {KEY} A Maker\n{}", valid()),
            SignatureError::Revoked(named.clone()),
        ),
        (
            format!("[GNUPG:] ERRSIG {KEY} 22 10 00 1767312000 9 -\n[GNUPG:] NO_PUBKEY {KEY}\n"),
            SignatureError::UnknownKey(KEY.to_owned()),
        ),
        (
            format!("[GNUPG:] ERRSIG {KEY} 1 2 00 1767312000 5 -\n"),
            SignatureError::Unusable(KEY.to_owned()),
        ),
        ("[GNUPG:] NODATA 4\n".to_owned(), SignatureError::None),
        (String::new(), SignatureError::None),
        // Only status lines with the fingerprint of a key count.
        (format!("[GNUPG:] GOODSIG {KEY} A Maker\n"), SignatureError::None),
        // Not a status line.
        (format!("GOODSIG {KEY} A Maker\n{}", valid()), SignatureError::None),
    ] {
        assert_eq!(judge(&said), Err(wanted), "{said}");
    }
}

#[test]
fn one_good_signature_of_several_will_do_unless_one_is_bad() {
    let good = format!("[GNUPG:] GOODSIG {KEY} A Maker\n{}", valid());
    let unknown = format!("[GNUPG:] ERRSIG {KEY} 22 10 00 1767312000 9 -\n");
    assert!(judge(&format!("{unknown}{good}")).is_ok());
    let bad = format!("[GNUPG:] BADSIG {KEY} A Maker\n");
    assert_eq!(
        judge(&format!("{good}{bad}")),
        Err(SignatureError::Bad(format!("{KEY} (A Maker)")))
    );
}

#[test]
fn a_refusal_names_the_key_and_those_trusted() {
    let keyring = Keyring { binary: Vec::new(), fingerprints: vec![PRIMARY.to_owned()] };
    let doubt = SignatureError::UnknownKey(KEY.to_owned());
    let [signed, signature] = ["/x/a.tar", "/x/a.tar.asc"].map(Path::new);
    let said = failure(&doubt, signed, signature, &[keyring], Cause::Source).to_string();
    assert!(said.contains("a.tar cannot be trusted: a.tar.asc was made by key"), "{said}");
    assert!(said.contains(KEY) && said.contains(&format!("trusted: {PRIMARY}")), "{said}");
}
