//! `djinni check`: judges the configuration with djinnid's own code.

use djinni_plan::config::{Config, ConfigError, load, shares_apart};
use serde_json::{Value, json};

use crate::arguments::Places;
use crate::failure::Failure;
use crate::output;

/// Reads and judges the configuration. Warnings go to standard error and do not fail it.
pub fn run(places: &Places) -> Result<(), Failure> {
    let outcome = configuration(&places.of_djinnid());
    if places.json {
        output::json(&document(&outcome))?;
    }
    let config = outcome.map_err(Failure::new)?;
    for warning in &config.warnings {
        eprintln!("djinni: warning: {}", output::printable(&warning.to_string()));
    }
    if places.json { Ok(()) } else { show(&config) }
}

/// The configuration, if djinnid would accept it.
pub fn configuration(places: &djinni_plan::places::Places) -> Result<Config, ConfigError> {
    let config = load(&places.config)?;
    shares_apart(&config, places)?;
    Ok(config)
}

fn show(config: &Config) -> Result<(), Failure> {
    let rows: Vec<_> = config.masters.values().map(row).collect();
    output::table(["MASTER", "IMAGE", "IDS", "SLAVES"], &rows)
}

fn row(master: &djinni_plan::config::Master) -> [String; 4] {
    let slaves: Vec<&str> = master.slaves.keys().map(djinni_api::SlaveName::as_str).collect();
    let last = u64::from(master.ids.first) + u64::from(master.ids.count).saturating_sub(1);
    let ids = format!("{}-{last}", master.ids.first);
    [master.name.to_string(), master.image.to_string(), ids, slaves.join(",")]
}

fn document(outcome: &Result<Config, ConfigError>) -> Value {
    match outcome {
        Ok(config) => json!({
            "valid": true,
            "masters": config.masters.keys().collect::<Vec<_>>(),
            "images": config.images.keys().collect::<Vec<_>>(),
            "warnings": config.warnings.iter().map(problem).collect::<Vec<_>>(),
        }),
        Err(error) => json!({ "valid": false, "error": problem(error) }),
    }
}

fn problem(error: &ConfigError) -> Value {
    let ConfigError { file, line, reason, remedy } = error;
    json!({ "file": file.display().to_string(), "line": line, "reason": reason, "remedy": remedy })
}
