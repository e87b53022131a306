//! The model file: a protobuf message (`sentencepiece_model.proto` of the SentencePiece project).

use std::collections::BTreeSet;
use std::path::Path;

use prost::Message;

use crate::export::ExportError;
use crate::guard::files::read_capped;

/// Largest model file; those of multilingual models have a few megabytes.
const MODEL_LIMIT_BYTES: u64 = 64 << 20;
/// Most pieces.
const PIECE_LIMIT: usize = 1 << 20;
/// Longest piece in bytes; SentencePiece trains pieces of at most 16 characters.
const PIECE_LIMIT_BYTES: usize = 1024;

/// `ModelProto`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Model {
    #[prost(message, repeated, tag = "1")]
    pub pieces: Vec<Piece>,
    #[prost(message, optional, tag = "2")]
    pub trainer: Option<Trainer>,
    #[prost(message, optional, tag = "3")]
    pub normalizer: Option<Normalizer>,
    #[prost(message, optional, tag = "5")]
    pub denormalizer: Option<Normalizer>,
}

/// `ModelProto.SentencePiece`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Piece {
    #[prost(string, optional, tag = "1")]
    pub piece: Option<String>,
    #[prost(float, optional, tag = "2")]
    pub score: Option<f32>,
    #[prost(enumeration = "PieceType", optional, tag = "3")]
    pub r#type: Option<i32>,
}

/// `ModelProto.SentencePiece.Type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum PieceType {
    Normal = 1,
    Unknown = 2,
    Control = 3,
    UserDefined = 4,
    Unused = 5,
    Byte = 6,
}

/// `TrainerSpec`, as far as it changes how text is cut.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Trainer {
    #[prost(enumeration = "ModelType", optional, tag = "3")]
    pub model: Option<i32>,
    #[prost(bool, optional, tag = "24")]
    pub whitespace_as_suffix: Option<bool>,
    #[prost(bool, optional, tag = "35")]
    pub byte_fallback: Option<bool>,
}

/// `TrainerSpec.ModelType`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, prost::Enumeration)]
#[repr(i32)]
pub(super) enum ModelType {
    Unigram = 1,
    Bpe = 2,
    Word = 3,
    Char = 4,
}

/// `NormalizerSpec`.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Normalizer {
    #[prost(bytes = "vec", optional, tag = "2")]
    pub character_map: Option<Vec<u8>>,
    #[prost(bool, optional, tag = "3")]
    pub dummy_prefix: Option<bool>,
    #[prost(bool, optional, tag = "4")]
    pub remove_extra_whitespaces: Option<bool>,
    #[prost(bool, optional, tag = "5")]
    pub escape_whitespaces: Option<bool>,
}

impl Piece {
    pub fn text(&self) -> &str {
        self.piece.as_deref().unwrap_or_default()
    }

    /// The type, `NORMAL` unless the file says otherwise.
    pub fn kind(&self) -> PieceType {
        self.r#type.and_then(|kind| PieceType::try_from(kind).ok()).unwrap_or(PieceType::Normal)
    }
}

impl Model {
    /// What `TrainerSpec` says, unigram unless it says otherwise.
    pub fn model_type(&self) -> ModelType {
        let found = self.trainer.as_ref().and_then(|trainer| trainer.model);
        found.and_then(|model| ModelType::try_from(model).ok()).unwrap_or(ModelType::Unigram)
    }

    pub fn byte_fallback(&self) -> bool {
        self.trainer.as_ref().and_then(|trainer| trainer.byte_fallback).unwrap_or(false)
    }

    pub fn character_map(&self) -> &[u8] {
        self.normalizer.as_ref().and_then(|normalizer| normalizer.character_map.as_deref()).unwrap_or_default()
    }

    pub fn dummy_prefix(&self) -> bool {
        self.normalizer.as_ref().and_then(|normalizer| normalizer.dummy_prefix).unwrap_or(true)
    }

    pub fn remove_extra_whitespaces(&self) -> bool {
        self.normalizer.as_ref().and_then(|normalizer| normalizer.remove_extra_whitespaces).unwrap_or(true)
    }
}

/// Reads a model and refuses what `tokenizer.json` cannot say.
pub(super) fn read(path: &Path) -> Result<Model, ExportError> {
    let bytes = read_capped(path, MODEL_LIMIT_BYTES)?;
    let invalid = |key: &str, found: String, expected: &str| ExportError::Invalid {
        file: path.to_path_buf(),
        key: key.to_owned(),
        found,
        expected: expected.to_owned(),
    };
    let unsupported = |key: &str, found: &str, supported: &str| ExportError::Unsupported {
        file: path.to_path_buf(),
        key: key.to_owned(),
        found: found.to_owned(),
        supported: supported.to_owned(),
    };
    let model = match Model::decode(bytes.as_slice()) {
        Ok(model) if !model.pieces.is_empty() => model,
        _ if !bytes.is_empty() && bytes.iter().all(|byte| byte.is_ascii_graphic() || byte.is_ascii_whitespace()) => {
            return Err(unsupported("format", "text (tiktoken?)", "a SentencePiece model, or a tokenizer.json beside it"));
        }
        Ok(_) => return Err(invalid("pieces", "none".to_owned(), "a SentencePiece model")),
        Err(error) => return Err(invalid("format", error.to_string(), "a SentencePiece model")),
    };
    if model.pieces.len() > PIECE_LIMIT {
        return Err(invalid("pieces", model.pieces.len().to_string(), &format!("at most {PIECE_LIMIT}")));
    }
    let mut seen = BTreeSet::new();
    for (id, piece) in model.pieces.iter().enumerate() {
        let text = piece.text();
        if text.is_empty() || text.len() > PIECE_LIMIT_BYTES {
            return Err(invalid(&format!("piece {id}"), format!("{} bytes", text.len()), &format!("1 to {PIECE_LIMIT_BYTES}")));
        }
        if !seen.insert(text) {
            return Err(invalid(&format!("piece {id}"), format!("{text:?}"), "a piece that stands once"));
        }
        if piece.kind() == PieceType::Unused {
            return Err(unsupported(&format!("piece {id}"), "UNUSED", "pieces in use"));
        }
        if !piece.score.unwrap_or(0.0).is_finite() {
            return Err(invalid(&format!("piece {id}"), format!("score {}", piece.score.unwrap_or(0.0)), "a finite score"));
        }
    }
    if !matches!(model.model_type(), ModelType::Bpe | ModelType::Unigram) {
        return Err(unsupported("trainer_spec.model_type", &format!("{:?}", model.model_type()), "BPE, unigram"));
    }
    if model.trainer.as_ref().and_then(|trainer| trainer.whitespace_as_suffix).unwrap_or(false) {
        return Err(unsupported("trainer_spec.treat_whitespace_as_suffix", "true", "false"));
    }
    if model.normalizer.as_ref().and_then(|normalizer| normalizer.escape_whitespaces) == Some(false) {
        return Err(unsupported("normalizer_spec.escape_whitespaces", "false", "true"));
    }
    let denormalizer = model.denormalizer.as_ref().and_then(|normalizer| normalizer.character_map.as_ref());
    if denormalizer.is_some_and(|map| !map.is_empty()) {
        return Err(unsupported("denormalizer_spec.precompiled_charsmap", "a table", "none"));
    }
    Ok(model)
}
