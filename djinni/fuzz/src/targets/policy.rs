//! Configuration files.

use djinni_plan::config::{Config, Files, Ids, Master, parse};
use djinni_plan::plan::compose_master;

/// Separator of files in an input. A configuration file cannot contain it.
const SEPARATOR: &str = "\u{1}";

/// Files of a configuration, separated: images first, then one master each. An accepted configuration gives
/// each slave its own ids and area; an error says what to do.
pub fn policy(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    let mut texts = text.split(SEPARATOR);
    let images = texts.next().map(|text| ("images.toml".into(), text.to_owned()));
    let masters = texts.take(4).enumerate();
    let files = Files {
        images,
        masters: masters
            .map(|(n, text)| (format!("/masters/m{n}.toml").into(), text.into()))
            .collect(),
        subordinate_ids: vec![("/etc/subuid".into(), "alice:100000:65536\n".into())],
    };
    match parse(&files) {
        Ok(config) => {
            is_kept_apart(&config);
            !config.masters.is_empty()
        }
        Err(error) => {
            assert!(!error.reason.is_empty() && !error.remedy.is_empty(), "{error}");
            let lines = files.masters.iter().map(|(_, text)| text.lines().count());
            let most = lines.max().unwrap_or(0).max(text.lines().count());
            assert!(error.line <= most + 1, "line {} of {most}: {error}", error.line);
            false
        }
    }
}

fn is_kept_apart(config: &Config) {
    let masters: Vec<&Master> = config.masters.values().collect();
    for (at, master) in masters.iter().enumerate() {
        assert!(master.ids.first >= 65_536, "{:?}", master.ids);
        assert!(masters[..at].iter().all(|other| !other.ids.overlaps(master.ids)));
        let slaves: Vec<_> = master.slaves.values().collect();
        for (at, slave) in slaves.iter().enumerate() {
            let own = Ids { first: master.ids.first, count: 65_536 };
            assert!(!slave.ids.overlaps(own), "{} has ids of its master", slave.name);
            let end = |ids: Ids| u64::from(ids.first) + u64::from(ids.count);
            assert!(slave.ids.first > master.ids.first && end(slave.ids) <= end(master.ids));
            for other in &slaves[..at] {
                assert!(!other.ids.overlaps(slave.ids), "{} {}", other.name, slave.name);
                assert!(!other.area.overlaps(&slave.area), "{} {}", other.area, slave.area);
            }
            assert!(!slave.area.overlaps(&master.var), "{} {}", slave.area, master.var);
        }
        for step in compose_master(master).steps() {
            assert!(!step.to_string().contains(char::is_control), "{step}");
        }
    }
}

/// Host ids in the text of a step: numbers after "owner", "as" and "for".
pub(super) fn ids_of(step: &str) -> Vec<u32> {
    let words: Vec<&str> = step.split([' ', ',', ')']).collect();
    let after = |pair: &&[&str]| ["owner", "as", "for"].contains(&pair[0]);
    let number = |pair: &[&str]| pair[1].trim_end_matches('.').parse().ok();
    words.windows(2).filter(after).filter_map(number).collect()
}
