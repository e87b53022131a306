//! Checkpoints that change a base model: deltas, LoRA adapters and projectors alone.

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;

use super::ExportError;
use super::architecture::{EMBEDDING, OUTPUT_HEAD};
use super::checkpoint::{Change, CheckpointTensors, FoundTensor, Role};
use super::files::{CheckpointFiles, PROJECTOR_FILES};
use super::lora::{ADAPTER_FILES, AdapterConfig, AdapterTensor, OTHER_FILES, adapter_tensor, plain_names};
use super::weight_files::{WeightFile, read_first_of};

/// Name in the package of a base's file.
fn base_name(name: &str) -> String {
    format!("base-{name}")
}

fn same_name(name: &str) -> String {
    name.to_owned()
}

impl CheckpointTensors {
    /// The sum of a delta and its base, as `llava/model/apply_delta.py` makes it: both are loaded in half precision; each
    /// tensor that the base has is added, and only the table of embeddings and the head may have more rows than the
    /// base's; the projector is the delta's own.
    pub(super) fn add_delta(&mut self, files: &CheckpointFiles) -> Result<(), ExportError> {
        let role = self.role();
        self.add_folder(&files.root, role, same_name)?;
        let delta = std::mem::take(&mut self.tensors);
        self.add_folder(&files.base, role, base_name)?;
        let mut base = std::mem::take(&mut self.tensors);
        for (name, mut found) in delta {
            let change = match base.remove(&name) {
                None if name.starts_with("projector.") || name.starts_with("vision.") => Change::Rounded,
                None => return Err(self.unlike(&found, "is not in the base".to_owned())),
                Some(base) => {
                    let (own, other) = (&found.entry.shape, &base.entry.shape);
                    let grown = name == EMBEDDING || name == OUTPUT_HEAD;
                    let fits = match (own.as_slice(), other.as_slice()) {
                        ([rows, columns], [base_rows, base_columns]) if grown => rows >= base_rows && columns == base_columns,
                        _ => own == other,
                    };
                    if !fits {
                        return Err(self.unlike(&found, format!("has shape {own:?}, and {other:?} in the base")));
                    }
                    self.check_floating(&base)?;
                    Change::Sum { base }
                }
            };
            found.change = Some(Box::new(change));
            self.tensors.insert(name, found);
        }
        match base.into_values().next() {
            None => Ok(()),
            Some(left) => Err(self.unlike(&left, format!("is not in the delta {}", files.root.display()))),
        }
    }

    /// A base with a projector of its own, which takes the place of the base's if it has one.
    pub(super) fn add_projector(&mut self, files: &CheckpointFiles) -> Result<(), ExportError> {
        let role = self.role();
        self.add_folder(&files.base, role, base_name)?;
        if let Some(file) = read_first_of(&files.root, &PROJECTOR_FILES)? {
            self.tensors.retain(|name, _| !name.starts_with("projector."));
            self.replace(file)?;
        }
        Ok(())
    }

    /// A base with LLaVA's other trained weights in place of its own, and then the adapter merged.
    pub(super) fn add_adapter(&mut self, files: &CheckpointFiles) -> Result<(), ExportError> {
        let config = AdapterConfig::read(&files.root)?;
        let role = self.role();
        self.add_folder(&files.base, role, base_name)?;
        if let Some(file) = read_first_of(&files.root, &OTHER_FILES)? {
            self.replace(file)?;
        }
        let Some(file) = read_first_of(&files.root, &ADAPTER_FILES)? else {
            let name = ADAPTER_FILES.join(" or ");
            let hint = ": adapter_config.json says that there is an adapter".to_owned();
            return Err(ExportError::MissingFile { folder: files.root.clone(), name, hint });
        };
        let (mut ups, mut downs): (BTreeMap<String, FoundTensor>, _) = (BTreeMap::new(), BTreeMap::new());
        for found in self.add_file(file, same_name)? {
            match adapter_tensor(&found.entry.key) {
                AdapterTensor::Up(module) => insert(self, &mut ups, module, found)?,
                AdapterTensor::Down(module) => insert(self, &mut downs, module, found)?,
                AdapterTensor::Whole(name) => {
                    let module = name.rsplit_once('.').map_or(name.as_str(), |(module, _)| module);
                    if name.contains("lora_") || !config.replaces(module) {
                        let problem = "is neither a matrix of a LoRA layer nor a module of modules_to_save".to_owned();
                        return Err(self.unlike(&found, problem));
                    }
                    match role(&name) {
                        Role::Ignored => {}
                        Role::Unknown => self.unknown.push(found),
                        Role::Weight(name) => drop(self.tensors.insert(name, found)),
                    }
                }
            }
        }
        for (module, up) in ups {
            let Some(down) = downs.remove(&module) else {
                return Err(self.unlike(&up, "has no lora_A of the same module".to_owned()));
            };
            self.attach(&config, &module, up, down)?;
        }
        match downs.into_values().next() {
            None => Ok(()),
            Some(down) => Err(self.unlike(&down, "has no lora_B of the same module".to_owned())),
        }
    }

    /// Makes a weight of the base the sum with an adapter's product.
    fn attach(&mut self, config: &AdapterConfig, module: &str, up: FoundTensor, down: FoundTensor) -> Result<(), ExportError> {
        let name = match (self.role())(&format!("{module}.weight")) {
            Role::Weight(name) => name,
            _ => return Err(self.unlike(&up, format!("is for {module:?}, which is no weight of this kind of checkpoint"))),
        };
        self.check_floating(&up)?;
        self.check_floating(&down)?;
        let Some(found) = self.tensors.get(&name) else {
            return Err(self.unlike(&up, format!("is for {module:?}, which the base does not have")));
        };
        let (outputs, rank, inputs) = match (up.entry.shape.as_slice(), down.entry.shape.as_slice()) {
            (&[outputs, rank], &[down_rank, inputs]) if rank == down_rank && rank > 0 => (outputs, rank, inputs),
            (up_shape, down_shape) => {
                let problem = format!("has shape {up_shape:?}, which does not fit {down_shape:?} of its lora_A");
                return Err(self.unlike(&up, problem));
            }
        };
        if found.entry.shape != [outputs, inputs] {
            let problem =
                format!("makes a change of shape [{outputs}, {inputs}], the weight of the base has {:?}", found.entry.shape);
            return Err(self.unlike(&up, problem));
        }
        self.check_floating(found)?;
        config.check_rank(module, rank)?;
        let scaling = config.scaling(module, rank);
        if let Entry::Occupied(mut entry) = self.tensors.entry(name) {
            entry.get_mut().change = Some(Box::new(Change::Product { up, down, scaling }));
        }
        Ok(())
    }

    /// Puts the tensors of a file in the place of those already there.
    fn replace(&mut self, file: WeightFile) -> Result<(), ExportError> {
        let role = self.role();
        let names = plain_names(file.tensors.iter().map(|tensor| tensor.entry.key.as_str()));
        let path = file.path.clone();
        let mut added: BTreeMap<String, String> = BTreeMap::new();
        for found in self.add_file(file, same_name)? {
            let key = found.entry.key.clone();
            match role(names.get(&key).map_or(&key, |name| name)) {
                Role::Ignored => {}
                Role::Unknown => self.unknown.push(found),
                Role::Weight(name) => {
                    if let Some(first) = added.insert(name.clone(), key.clone()) {
                        return Err(ExportError::DuplicateTensor { path, first, second: key });
                    }
                    self.tensors.insert(name, found);
                }
            }
        }
        Ok(())
    }

    fn unlike(&self, found: &FoundTensor, problem: String) -> ExportError {
        ExportError::Base { path: self.path_of(found), tensor: found.entry.key.clone(), problem }
    }

    fn check_floating(&self, found: &FoundTensor) -> Result<(), ExportError> {
        if matches!(found.entry.dtype.as_str(), "F32" | "F16" | "BF16") {
            return Ok(());
        }
        let (path, tensor) = (self.path_of(found), found.entry.key.clone());
        Err(ExportError::Dtype { path, tensor, found: found.entry.dtype.clone() })
    }
}

/// Remembers a matrix of a module, of which there may be one.
fn insert(
    tensors: &CheckpointTensors,
    matrices: &mut BTreeMap<String, FoundTensor>,
    module: String,
    found: FoundTensor,
) -> Result<(), ExportError> {
    let (path, second) = (tensors.path_of(&found), found.entry.key.clone());
    match matrices.insert(module, found) {
        None => Ok(()),
        Some(first) => Err(ExportError::DuplicateTensor { path, first: first.entry.key, second }),
    }
}
