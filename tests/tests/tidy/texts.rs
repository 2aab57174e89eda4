//! Both sides have the same rule for foreign text: neither imports the other, so a test compares them.

use crate::none;

#[test]
fn tidy_control_characters_are_escaped_alike_on_both_sides() {
    let all = ('\0'..=char::MAX).filter(|c| slave_api::steers(*c));
    let odd = all.filter(|c| {
        let text = c.to_string();
        let escaped: String = c.escape_default().collect();
        djinni_api::text::printable(&text) != escaped
            || slave_api::printable(&text, 100) != escaped
            || (*c != '\n' && slave_api::printable_lines(&text) != escaped)
            || (*c > '~'
                && djinni_api::text::printable_json(&text) != slave_api::printable_json(&text))
    });
    none(odd.map(|c| format!("{c:?}")).collect(), "characters that are shown");
}
