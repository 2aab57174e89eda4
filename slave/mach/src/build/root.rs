//! The layers that a build stands on: the one place where builds meet the roots' functions.

use std::path::PathBuf;

use crate::failure::Failure;
use crate::layers::Layer;
use crate::package::{Package, Resolution};
use crate::roots::{self, Chain};
use crate::srpm::Needs;
use crate::workshop::Workshop;

/// Layers of a root, lowest first.
#[derive(Debug)]
pub struct Root {
    /// Each locked as long as this lives.
    pub layers: Vec<Layer>,
}

impl Root {
    /// What every source may take for granted.
    pub fn build_set(workshop: &Workshop<'_>) -> Result<Self, Failure> {
        Ok(Self { layers: vec![roots::minimal(workshop)?] })
    }

    /// The same root with what a source needs.
    pub fn with(
        mut self,
        workshop: &Workshop<'_>,
        needs: &Needs,
        chain: &mut Chain,
    ) -> Result<Self, Failure> {
        self.layers.truncate(1);
        let added = match self.layers.first() {
            Some(set) => roots::dependencies(workshop, set, &needs.requirements, chain)?,
            None => None,
        };
        self.layers.extend(added);
        Ok(self)
    }

    /// Keys of the layers, lowest first.
    pub fn keys(&self) -> Vec<String> {
        self.layers.iter().map(|layer| layer.manifest.key.clone()).collect()
    }

    /// The packages in it, as far as the manifests know them.
    pub fn contents(&self) -> Resolution {
        let of = |nevra: &String| Package {
            nevra: nevra.clone(),
            name: String::new(),
            repository: String::new(),
            location: String::new(),
            sha256: String::new(),
            size_bytes: 0,
        };
        let packages = self.layers.last().map(|layer| &layer.manifest.packages[..]);
        Resolution::new(packages.unwrap_or_default().iter().map(of).collect())
    }

    /// Directories of the layers, uppermost first.
    pub fn paths(&self) -> Vec<PathBuf> {
        self.layers.iter().rev().map(Layer::root).collect()
    }
}
