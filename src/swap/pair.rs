//! Two packages whose stages fit each other.

use super::SwapError;
use crate::compare::{Side, Stage};
use crate::package::{Manifest, Misfit, Package, StageName, changes_of_stage, misfits, mixed_manifest};
use crate::prompt::Prompter;

/// Which package each stage comes from, in the order of the flow.
pub type Mix = [Side; 3];

/// Two packages, checked.
pub struct PackagePair {
    /// The first package.
    pub base: Package,
    /// The second package.
    pub new: Package,
    prompters: [Prompter; 2],
    changes: [Vec<&'static str>; 3],
}

/// The stage by its name in the package room.
pub(super) fn stage_name(stage: Stage) -> StageName {
    match stage {
        Stage::Vision => StageName::Vision,
        Stage::Projector => StageName::Projector,
        Stage::Llm => StageName::Llm,
    }
}

impl PackagePair {
    /// Checks that the stages of both packages can be exchanged, and compares them.
    pub fn new(base: Package, new: Package) -> Result<Self, SwapError> {
        for package in [&base, &new] {
            if let Some(foreign) = &package.manifest.foreign {
                let (package, layout) = (package.manifest.name.clone(), foreign.layout.as_str().to_owned());
                return Err(SwapError::Foreign { package, layout });
            }
        }
        let found: Vec<Misfit> = misfits(&base.manifest, &new.manifest);
        if !found.is_empty() {
            let (base, new) = (base.manifest.name, new.manifest.name);
            return Err(SwapError::Misfit { base, new, misfits: found });
        }
        let prompters = [Prompter::open(&base)?, Prompter::open(&new)?];
        let [left, right] = &prompters;
        if let Some((token, base_id, new_id)) = left.token_conflict(right) {
            let (base, new) = (base.manifest.name, new.manifest.name);
            return Err(SwapError::Tokens { base, new, token, base_id, new_id });
        }
        let [vision, projector, llm] = StageName::ALL.map(|stage| changes_of_stage(&base, &new, stage));
        Ok(Self { changes: [vision?, projector?, llm?], base, new, prompters })
    }

    /// What differs in a stage, such as `weights`; empty where it is the same in both packages.
    pub fn changes(&self, stage: Stage) -> &[&'static str] {
        let [vision, projector, llm] = &self.changes;
        match stage {
            Stage::Vision => vision,
            Stage::Projector => projector,
            Stage::Llm => llm,
        }
    }

    /// The stages that are the same in both packages.
    pub fn equal_stages(&self) -> Vec<Stage> {
        Stage::ALL.into_iter().filter(|stage| self.changes(*stage).is_empty()).collect()
    }

    /// Every mix of the stages that differ, the base package first and the new one last; equal stages count as the base's. The
    /// vision encoder changes least often, then the projector, so that images are encoded as seldom as can be.
    pub fn mixes(&self) -> Vec<Mix> {
        let sides = |stage| if self.changes(stage).is_empty() { vec![Side::Base] } else { vec![Side::Base, Side::New] };
        let mut mixes = Vec::with_capacity(8);
        for vision in sides(Stage::Vision) {
            for projector in sides(Stage::Projector) {
                mixes.extend(sides(Stage::Llm).into_iter().map(|llm| [vision, projector, llm]));
            }
        }
        mixes
    }

    /// The manifest by which a mix is run.
    pub fn manifest(&self, mix: Mix) -> Manifest {
        let new: Vec<StageName> =
            Stage::ALL.into_iter().zip(mix).filter(|(_, side)| *side == Side::New).map(|(stage, _)| stage_name(stage)).collect();
        mixed_manifest(&self.base.manifest, &self.new.manifest, &new)
    }

    /// The prompts of a mix: those of its language model.
    pub fn prompter(&self, mix: Mix) -> &Prompter {
        let ([base, new], [.., llm]) = (&self.prompters, mix);
        if llm == Side::New { new } else { base }
    }
}
