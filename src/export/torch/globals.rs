//! The names that a pickle may use. Each stands for a fixed step of this reader; none is looked up or called.

/// A name of Python that the reader knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Global {
    /// `collections.OrderedDict`.
    OrderedDict,
    /// `torch._utils._rebuild_tensor_v2`, and `_rebuild_tensor` of before PyTorch 0.4.
    RebuildTensor,
    /// `torch._utils._rebuild_parameter`.
    RebuildParameter,
    /// `torch.Size`.
    Size,
    /// `torch.FloatStorage` and its like, by the number type.
    Storage(Element),
}

/// Number type of a storage.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Element {
    /// As safetensors names it.
    pub name: &'static str,
    pub bytes: u64,
}

/// Storages of `torch.storage`; complex and quantised ones are not here, as no checkpoint of a LLaVA has them.
const STORAGES: [(&str, Element); 10] = [
    ("FloatStorage", Element { name: "F32", bytes: 4 }),
    ("HalfStorage", Element { name: "F16", bytes: 2 }),
    ("BFloat16Storage", Element { name: "BF16", bytes: 2 }),
    ("DoubleStorage", Element { name: "F64", bytes: 8 }),
    ("LongStorage", Element { name: "I64", bytes: 8 }),
    ("IntStorage", Element { name: "I32", bytes: 4 }),
    ("ShortStorage", Element { name: "I16", bytes: 2 }),
    ("CharStorage", Element { name: "I8", bytes: 1 }),
    ("ByteStorage", Element { name: "U8", bytes: 1 }),
    ("BoolStorage", Element { name: "BOOL", bytes: 1 }),
];

/// The meaning of a module and name; `None` is to be refused.
pub(super) fn known(module: &str, name: &str) -> Option<Global> {
    match (module, name) {
        ("collections", "OrderedDict") => Some(Global::OrderedDict),
        ("torch._utils", "_rebuild_tensor_v2" | "_rebuild_tensor") => Some(Global::RebuildTensor),
        ("torch._utils", "_rebuild_parameter") => Some(Global::RebuildParameter),
        ("torch", "Size") => Some(Global::Size),
        ("torch" | "torch.storage", _) => {
            STORAGES.iter().find(|(storage, _)| *storage == name).map(|(_, element)| Global::Storage(*element))
        }
        _ => None,
    }
}
