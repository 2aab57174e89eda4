//! The unchecked text of a dist's file. `judge` converts it to a [`crate::distribution::Dist`].

use std::collections::BTreeMap;

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct DistFile {
    pub name: String,
    pub summary: String,
    pub package_manager: String,
    pub arch: String,
    pub releasever: String,
    pub rpm: Option<String>,
    pub personality: Option<String>,
    pub sets: SetsTable,
    pub repository: Vec<RepositoryTable>,
    pub build: BuildTable,
    #[serde(default)]
    pub environment: BTreeMap<String, String>,
    #[serde(default)]
    pub macros: Macros,
    pub source_date_epoch: Option<EpochTable>,
    #[serde(default)]
    pub hooks: HooksTable,
    #[serde(default)]
    pub hosts: BTreeMap<String, Vec<String>>,
    pub resolv: Option<ResolvTable>,
    pub layers: Option<LayersTable>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct SetsTable {
    #[serde(default)]
    pub minimal: Vec<String>,
    #[serde(default)]
    pub base: Vec<String>,
    #[serde(default)]
    pub build: Vec<String>,
    #[serde(default)]
    pub shared: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct RepositoryTable {
    pub name: String,
    pub url: String,
    pub priority: Option<u32>,
    #[serde(default)]
    pub gpgcheck: bool,
    #[serde(default)]
    pub repo_gpgcheck: bool,
    #[serde(default)]
    pub keys: Vec<String>,
    pub suite: Option<String>,
    #[serde(default)]
    pub components: Vec<String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct BuildTable {
    pub user: String,
    pub uid: u32,
    pub home: String,
    pub hostname: String,
    pub readonly_root: Option<bool>,
    pub network: Option<bool>,
    pub nested_proc: Option<bool>,
    pub time_limit: Option<String>,
    pub log_limit: Option<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Macros {
    #[serde(default)]
    pub install: BTreeMap<String, String>,
    #[serde(default)]
    pub build: BTreeMap<String, String>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct EpochTable {
    pub policy: String,
    pub value: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct HooksTable {
    #[serde(default)]
    pub on_success: Vec<Vec<String>>,
    #[serde(default)]
    pub on_failure: Vec<Vec<String>>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct ResolvTable {
    pub conf: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct LayersTable {
    pub size: String,
}
