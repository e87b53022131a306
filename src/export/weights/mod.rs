//! Where each weight of a package stands: tensors that already have the wanted number type in the checkpoint's own files, in place;
//! everything else in `weights.safetensors`, widened, rounded, quantised, put into row-major order, or merged with its base as it
//! is written.

mod layout;
mod smoothed;
mod write;

use std::collections::{BTreeMap, BTreeSet};

use layout::{Layout, Slot};
pub(super) use layout::{Place, StoredType};
use smoothed::Factors;

use super::ExportError;
use super::architecture::{EMBEDDING, LlavaArchitecture, OUTPUT_HEAD, RequiredTensor};
use super::checkpoint::{CheckedTensors, FoundTensor, Shard};
use super::quantise::{Calibration, Scheme, Schemes};
use crate::package::{TensorDtype, TensorLocation};

/// File of the tensors that had to be rewritten or computed.
pub(super) const WEIGHTS_FILE: &str = "weights.safetensors";
/// Numbers of a torch file that a graph uses in place stand at a multiple of their width; in safetensors they mostly do.
const ALIGNMENT_BYTES: u64 = 4;
/// What ends the name of a quantised weight's codes.
pub(super) const CODES: &str = ".codes";
/// What ends the name of its scales.
pub(super) const SCALES: &str = ".scales";

/// A weight of `weights.safetensors`: one tensor, or codes and scales.
struct Written {
    /// Canonical name.
    name: String,
    shape: Vec<usize>,
    content: Content,
}

enum Content {
    /// Stored as this floating-point type, whatever the source's is.
    Floats(FoundTensor, TensorDtype),
    /// Quantised as this scheme says.
    Quantised(FoundTensor, Scheme),
    /// A table in 8 bits with a scale for each row.
    Table(FoundTensor),
    /// Computed at export.
    Computed(Vec<f32>),
}

/// What a graph multiplies by.
pub(super) struct LinearWeight {
    /// Canonical name of the weight, with `.weight`.
    pub name: String,
    /// How it is stored.
    pub scheme: Scheme,
    /// `[outputs, inputs]`.
    pub shape: [usize; 2],
}

/// Places of all weights, and what has to be written for them.
pub(super) struct WeightPlan {
    shards: Vec<Shard>,
    layout: Layout,
    written: Vec<Written>,
    in_place: BTreeSet<usize>,
    /// Linear layers and other weights, by canonical name: how they are stored, and their shape.
    schemes: BTreeMap<String, (Scheme, Vec<usize>)>,
    /// Statistics that guide the quantisation.
    calibration: Option<Calibration>,
    /// By weight: what its inputs' weights are multiplied by, or, of a norm, what its outputs are divided by.
    factors: Factors,
}

/// One weight and how it is wanted.
struct Wanted<'a> {
    name: String,
    shape: Vec<usize>,
    found: &'a FoundTensor,
    form: Form,
}

#[derive(Clone, Copy, PartialEq)]
enum Form {
    Float(TensorDtype),
    Quantised(Scheme),
    Table,
}

impl WeightPlan {
    /// Decides where every tensor of a LLaVA model stands. `computed` are tensors that the checkpoint does not have (rotary tables).
    pub fn new(
        architecture: &LlavaArchitecture,
        checked: CheckedTensors,
        computed: Vec<(&str, Vec<usize>, Vec<f32>)>,
        schemes: &Schemes,
        calibration: Option<&Calibration>,
    ) -> Result<Self, ExportError> {
        Self::of(architecture.required_tensors(), Some(architecture.llm.tied), checked, computed, schemes, calibration)
    }

    /// Decides where each of these tensors stands. `tied` says, of a model with a token table outside its graph, whether the output
    /// head is that table.
    pub fn of(
        required: Vec<RequiredTensor>,
        tied: Option<bool>,
        checked: CheckedTensors,
        computed: Vec<(&str, Vec<usize>, Vec<f32>)>,
        schemes: &Schemes,
        calibration: Option<&Calibration>,
    ) -> Result<Self, ExportError> {
        let mut plan = Self {
            shards: checked.shards,
            layout: Layout::default(),
            written: Vec::new(),
            in_place: BTreeSet::new(),
            schemes: BTreeMap::new(),
            calibration: calibration.cloned(),
            factors: Factors::new(),
        };
        plan.factors = plan.smoothing_factors(&required, &checked.tensors, schemes)?;
        let mut wanted = Vec::new();
        for required in required {
            let Some(found) = checked.tensors.get(&required.name) else { continue };
            let table = required.name == EMBEDDING && tied.is_some();
            if table && tied == Some(true) {
                wanted.extend(tied_head(&required, found, schemes));
            }
            let scheme = schemes.of(&required.name, &required.shape);
            let form = if table { table_form(found, tied == Some(true), schemes) } else { form_of(scheme) };
            wanted.push(Wanted { name: required.name, shape: required.shape, found, form });
        }
        let allowed = plan.shards_in_place(&wanted, schemes)?;
        let mut narrow_table = None;
        for Wanted { name, shape, found, form } in wanted {
            let scheme = match form {
                Form::Quantised(scheme) => scheme,
                Form::Float(TensorDtype::F16) => Scheme::Fp16,
                Form::Float(TensorDtype::Bf16) => Scheme::Bf16,
                Form::Float(_) | Form::Table => Scheme::Fp32,
            };
            plan.schemes.insert(name.clone(), (scheme, shape.clone()));
            // A narrow table of an fp32 package is copied although it could stay where it is, as it always was: packages of the same
            // checkpoint keep their bytes.
            let usable = if plan.factors.contains_key(&name) { None } else { plan.usable_in_place(found, form) };
            let copied = name == EMBEDDING && tied == Some(false) && schemes.all_fp32() && usable != Some(TensorDtype::F32);
            if let Some(dtype) = usable
                && allowed.contains(&found.shard)
                && !copied
            {
                plan.in_place.insert(found.shard);
                let file = plan.shards.get(found.shard).map(|shard| shard.package_name.clone()).unwrap_or_default();
                let place = Place { file, offset: found.entry.offset, bytes: found.entry.bytes, stored: dtype.into(), shape };
                plan.layout.places.insert(name, place);
                continue;
            }
            let content = match form {
                Form::Float(dtype) => Content::Floats(found.clone(), dtype),
                Form::Quantised(scheme) => Content::Quantised(found.clone(), scheme),
                Form::Table => Content::Table(found.clone()),
            };
            let written = Written { name, shape, content };
            if copied {
                narrow_table = Some(written);
            } else {
                plan.written.push(written);
            }
        }
        for (name, shape, values) in computed {
            plan.written.push(Written { name: name.to_owned(), shape, content: Content::Computed(values) });
        }
        // Narrow numbers last, so that all others stay aligned to their width.
        plan.written.extend(narrow_table);
        let slots = plan.written.iter().flat_map(Written::slots).collect();
        plan.layout.fill(slots, !schemes.all_fp32());
        Ok(plan)
    }

    /// The number type in which a graph, or the lookup of rows, can use the stored bytes as they are.
    fn usable_in_place(&self, found: &FoundTensor, form: Form) -> Option<TensorDtype> {
        let Form::Float(dtype) = form else { return None };
        let torch = self.shards.get(found.shard).is_some_and(|shard| shard.package_name.ends_with(".bin"));
        let aligned = !torch || found.entry.offset.is_multiple_of(ALIGNMENT_BYTES.min(dtype.bytes()));
        (float_dtype(&found.entry.dtype) == dtype && found.is_plain() && aligned).then_some(dtype)
    }

    /// Weight files that the package may point into: all of them, unless weights are made smaller. Then a file belongs to the package
    /// only if at least half of it is used, or the package would be as large as the checkpoint.
    fn shards_in_place(&self, wanted: &[Wanted<'_>], schemes: &Schemes) -> Result<BTreeSet<usize>, ExportError> {
        if schemes.all_fp32() {
            return Ok((0..self.shards.len()).collect());
        }
        let mut used: BTreeMap<usize, u64> = BTreeMap::new();
        for Wanted { found, form, .. } in wanted {
            if self.usable_in_place(found, *form).is_some() {
                *used.entry(found.shard).or_default() += found.entry.bytes;
            }
        }
        let mut allowed = BTreeSet::new();
        for (shard, used_bytes) in used {
            let Some(Shard { path, .. }) = self.shards.get(shard) else { continue };
            let length =
                std::fs::metadata(path).map_err(|source| ExportError::Io { action: "read", path: path.clone(), source })?.len();
            if used_bytes >= length.div_ceil(2) {
                allowed.insert(shard);
            }
        }
        Ok(allowed)
    }

    /// Where a tensor stands.
    pub fn place(&self, name: &str) -> Option<&Place> {
        self.layout.places.get(name)
    }

    /// Where a tensor stands, for a manifest; `None` for a type that a manifest does not name.
    pub fn location(&self, name: &str) -> Option<TensorLocation> {
        self.place(name)?.location()
    }

    /// Where the token embedding table stands, and the scales of its rows if it is in 8 bits.
    pub fn table(&self) -> Option<(TensorLocation, Option<TensorLocation>)> {
        match self.location(EMBEDDING) {
            Some(table) => Some((table, None)),
            None => Some((self.location(&format!("{EMBEDDING}{CODES}"))?, self.location(&format!("{EMBEDDING}{SCALES}")))),
        }
    }

    /// The weight of a linear layer, `name` being without `.weight`.
    pub fn linear(&self, name: &str) -> Option<LinearWeight> {
        let name = format!("{name}.weight");
        let (scheme, shape) = self.schemes.get(&name)?;
        let &[outputs, inputs] = shape.as_slice() else { return None };
        Some(LinearWeight { name, scheme: *scheme, shape: [outputs, inputs] })
    }

    /// Name of the output head without `.weight`: its own, or the token table's where the graph reads that.
    pub fn head(&self) -> &'static str {
        let name = if self.schemes.contains_key(OUTPUT_HEAD) { OUTPUT_HEAD } else { EMBEDDING };
        name.trim_end_matches(".weight")
    }

    /// Weight files of the checkpoint that the package points into.
    pub fn files_in_place(&self) -> impl Iterator<Item = &Shard> {
        self.in_place.iter().filter_map(|&shard| self.shards.get(shard))
    }

    /// Whether `weights.safetensors` has any tensor.
    pub fn writes_any(&self) -> bool {
        !self.written.is_empty()
    }

    /// Length of `weights.safetensors` in bytes.
    pub fn written_bytes(&self) -> u64 {
        self.layout.total_bytes
    }
}

impl Written {
    /// The tensors that the weight is stored as.
    fn slots(&self) -> Vec<Slot> {
        let one = |stored: StoredType| vec![Slot { name: self.name.clone(), stored, shape: self.shape.clone() }];
        let pair = |stored, codes: Vec<usize>, scales: Vec<usize>| {
            let named = |ending: &str| format!("{}{ending}", self.name);
            vec![
                Slot { name: named(CODES), stored, shape: codes },
                Slot { name: named(SCALES), stored: StoredType::F32, shape: scales },
            ]
        };
        let (outputs, inputs) = self.rows();
        match &self.content {
            Content::Computed(_) => one(StoredType::F32),
            Content::Floats(_, dtype) => one((*dtype).into()),
            Content::Table(_) => pair(StoredType::I8, vec![outputs, inputs], vec![outputs]),
            // As `MatMulIntegerToFloat` wants them: an input's codes stand together.
            Content::Quantised(_, Scheme::Int8) => pair(StoredType::I8, vec![inputs, outputs], vec![outputs]),
            Content::Quantised(_, Scheme::Blocks(format)) => {
                let blocks = format.blocks(inputs);
                // Pairs of 4-bit codes are bytes, whatever the sign of the codes.
                let stored = if format.signed && format.bits == 8 { StoredType::I8 } else { StoredType::U8 };
                pair(stored, vec![outputs, blocks, format.block_bytes()], vec![outputs * blocks])
            }
            Content::Quantised(_, Scheme::Fp32 | Scheme::Fp16 | Scheme::Bf16) => one(StoredType::F32),
        }
    }

    /// Outputs and inputs of a weight with two dimensions.
    fn rows(&self) -> (usize, usize) {
        match self.shape.as_slice() {
            &[outputs, inputs] => (outputs, inputs),
            _ => (1, self.shape.iter().product()),
        }
    }
}

fn form_of(scheme: Scheme) -> Form {
    match scheme {
        Scheme::Fp32 => Form::Float(TensorDtype::F32),
        Scheme::Fp16 => Form::Float(TensorDtype::F16),
        Scheme::Bf16 => Form::Float(TensorDtype::Bf16),
        Scheme::Int8 | Scheme::Blocks(_) => Form::Quantised(scheme),
    }
}

/// A floating-point type by the name that safetensors gives it; checkpoints have no others.
fn float_dtype(name: &str) -> TensorDtype {
    match name {
        "F16" => TensorDtype::F16,
        "BF16" => TensorDtype::Bf16,
        _ => TensorDtype::F32,
    }
}

/// How the token table is stored. Its rows are looked up outside the graph, which can widen them one by one; only a tied table that
/// the graph reads is in 32 bits.
fn table_form(found: &FoundTensor, tied: bool, schemes: &Schemes) -> Form {
    if tied && shares_table(found, schemes) {
        return form_of(schemes.head);
    }
    match schemes.embedding {
        None => Form::Float(float_dtype(found.dtype())),
        Some(TensorDtype::I8) => Form::Table,
        Some(dtype) => Form::Float(dtype),
    }
}

/// Whether a tied head can read the very table that rows are looked up in: both are of one floating-point type.
fn shares_table(found: &FoundTensor, schemes: &Schemes) -> bool {
    match (form_of(schemes.head), schemes.embedding) {
        // What a graph reads in 32 bits is looked up in 32 bits, unless the table is asked for by itself.
        (Form::Float(TensorDtype::F32), None) => true,
        (Form::Float(head), None) => float_dtype(found.dtype()) == head,
        (Form::Float(head), Some(table)) => head == table,
        _ => false,
    }
}

/// The head of a tied model as a weight of its own, unless it can read the table.
fn tied_head<'a>(table: &RequiredTensor, found: &'a FoundTensor, schemes: &Schemes) -> Option<Wanted<'a>> {
    if shares_table(found, schemes) {
        return None;
    }
    Some(Wanted { name: OUTPUT_HEAD.to_owned(), shape: table.shape.clone(), found, form: form_of(schemes.head) })
}
