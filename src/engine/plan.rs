//! Planning a group: prompts as rows, what they share, how the rest is packed, and who may look at whom. Pure code.

use std::ops::Range;

use super::types::Segment;

/// The attention bias that hides a position. `f32::MIN` and not the customary -1e9: whatever finite score a neighbour's key
/// gives, the sum stays so far below any visible score that its exponential is exactly zero, so that a neighbour cannot
/// change a single bit of a row; and unlike negative infinity it turns no overflowing score into a NaN.
pub(super) const HIDDEN: f32 = f32::MIN;

/// One row of a prompt as the language model sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Row {
    /// A text token.
    Token(u32),
    /// A row of an image of the group.
    Image {
        /// The image.
        image: usize,
        /// Row among those that the image gives to the prompt.
        row: usize,
    },
}

/// Spells a prompt out; `rows_of_image` counts the rows that each image of the group gives. Image indices must have been
/// checked.
pub(super) fn rows(segments: &[Segment], rows_of_image: &[usize]) -> Vec<Row> {
    let mut rows = Vec::new();
    for segment in segments {
        match segment {
            Segment::Tokens(tokens) => rows.extend(tokens.iter().map(|&token| Row::Token(token))),
            Segment::Image(image) => {
                let count = rows_of_image.get(*image).copied().unwrap_or(0);
                rows.extend((0..count).map(|row| Row::Image { image: *image, row }));
            }
        }
    }
    rows
}

/// Rows of a prompt, without spelling it out.
pub(super) fn length(segments: &[Segment], rows_of_image: &[usize]) -> usize {
    segments
        .iter()
        .map(|segment| match segment {
            Segment::Tokens(tokens) => tokens.len(),
            Segment::Image(image) => rows_of_image.get(*image).copied().unwrap_or(0),
        })
        .fold(0, usize::saturating_add)
}

/// Length of the longest prefix that all prompts share, such that each keeps at least one row of its own: the row whose
/// logits give its first token. A single prompt shares nothing.
pub(super) fn shared_prefix<'a>(mut prompts: impl Iterator<Item = &'a [Row]>) -> usize {
    let (Some(first), Some(second)) = (prompts.next(), prompts.next()) else { return 0 };
    let mut length = first.len().saturating_sub(1);
    for prompt in std::iter::once(second).chain(prompts) {
        let equal = first.iter().zip(prompt).take(length).take_while(|(left, right)| left == right).count();
        length = equal.min(prompt.len().saturating_sub(1));
    }
    length
}

/// What one question asks of a pack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Demand {
    /// Position in the group.
    pub request: usize,
    /// Rows after the shared prefix, at least 1.
    pub suffix_rows: usize,
    /// Longest answer.
    pub max_new_tokens: usize,
}

/// Questions that run together over one shared prefix.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Pack {
    /// Its questions, in the order of the group.
    pub members: Vec<Demand>,
    /// Rows of the key-value cache that it can need, prefix included.
    pub total_rows: usize,
}

/// Splits questions into packs, in order and greedily, so that the same group is always split the same way.
///
/// A pack holds at most `maximum_packed_rows` suffix rows, which bounds the memory of attention scores, and its cache stays
/// within `maximum_positions`: the grouped-query attention kernel wants a row of the rotary table for each row of the cache,
/// even where positions restart. A single question is always a pack, whatever its size. Without a shared prefix nothing is
/// packed, because the kernel promises `position_ids` that restart only on top of a past.
pub(super) fn packs(prefix: usize, demands: &[Demand], maximum_packed_rows: usize, maximum_positions: usize) -> Vec<Pack> {
    let mut packs: Vec<Pack> = Vec::new();
    let mut packed_rows = 0_usize;
    for demand in demands {
        let rows = demand.suffix_rows.saturating_add(demand.max_new_tokens);
        if prefix > 0
            && let Some(pack) = packs.last_mut()
            && packed_rows.saturating_add(demand.suffix_rows) <= maximum_packed_rows
            && pack.total_rows.saturating_add(rows) <= maximum_positions
        {
            packed_rows += demand.suffix_rows;
            pack.total_rows += rows;
            pack.members.push(*demand);
        } else {
            packed_rows = demand.suffix_rows;
            packs.push(Pack { members: vec![*demand], total_rows: prefix.saturating_add(rows) });
        }
    }
    packs
}

/// Writes one row of the attention bias: 0 in the visible ranges, hidden elsewhere.
pub(super) fn write_bias(row: &mut [f32], visible: &[Range<usize>]) {
    row.fill(HIDDEN);
    for range in visible {
        if let Some(columns) = row.get_mut(range.clone()) {
            columns.fill(0.0);
        }
    }
}

/// As [`write_bias`], with at most the newest `window` of the visible positions. The ranges must be those of one sequence in
/// order, ending in the row itself: the n-th visible position then has position n, so that leaving out the oldest hides
/// just those whose distance is `window` or more, wherever they stand in the cache.
pub(super) fn write_windowed_bias(row: &mut [f32], visible: &[Range<usize>], window: Option<usize>) {
    write_bias(row, visible);
    let Some(window) = window else { return };
    let seen: usize = visible.iter().map(Range::len).sum();
    let mut too_old = seen.saturating_sub(window);
    for range in visible {
        let hidden = too_old.min(range.len());
        if let Some(columns) = row.get_mut(range.start..range.start + hidden) {
            columns.fill(HIDDEN);
        }
        too_old -= hidden;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn tokens(ids: &[u32]) -> Vec<Row> {
        ids.iter().map(|&id| Row::Token(id)).collect()
    }

    fn prefix_of(prompts: &[Vec<Row>]) -> usize {
        shared_prefix(prompts.iter().map(Vec::as_slice))
    }

    #[test]
    fn segments_are_spelled_out() {
        let segments = [Segment::Tokens(vec![1, 2]), Segment::Image(1), Segment::Tokens(vec![3])];
        let rows = rows(&segments, &[9, 2]);
        assert_eq!(
            rows,
            [Row::Token(1), Row::Token(2), Row::Image { image: 1, row: 0 }, Row::Image { image: 1, row: 1 }, Row::Token(3)]
        );
        assert_eq!(length(&segments, &[9, 2]), 5);
        assert_eq!(length(&[Segment::Image(0), Segment::Image(0)], &[usize::MAX]), usize::MAX);
    }

    #[test]
    fn the_shared_prefix_leaves_each_prompt_a_row() {
        assert_eq!(prefix_of(&[tokens(&[1, 2, 3, 4]), tokens(&[1, 2, 5])]), 2);
        assert_eq!(prefix_of(&[tokens(&[1, 2, 3]), tokens(&[1, 2, 3])]), 2, "identical prompts");
        assert_eq!(prefix_of(&[tokens(&[1, 2, 3]), tokens(&[1, 2])]), 1, "one is a prefix of the other");
        assert_eq!(prefix_of(&[tokens(&[1, 2]), tokens(&[1, 2, 3])]), 1, "and the other way round");
        assert_eq!(prefix_of(&[tokens(&[1, 2, 3])]), 0, "one prompt runs in one piece");
        assert_eq!(prefix_of(&[tokens(&[7, 2]), tokens(&[1, 2])]), 0);
        let image = |image| vec![Row::Token(1), Row::Image { image, row: 0 }, Row::Token(2)];
        assert_eq!(prefix_of(&[image(0), image(1)]), 1, "another image is another row");
    }

    #[test]
    fn nothing_is_packed_without_a_shared_prefix() {
        let demands =
            [Demand { request: 0, suffix_rows: 3, max_new_tokens: 1 }, Demand { request: 1, suffix_rows: 3, max_new_tokens: 1 }];
        assert_eq!(packs(0, &demands, 100, 100).len(), 2);
        assert_eq!(packs(1, &demands, 100, 100).len(), 1);
    }

    #[test]
    fn bias_is_zero_where_visible() {
        let mut row = [7.0; 6];
        write_bias(&mut row, &[0..2, 4..5]);
        assert_eq!(row, [0.0, 0.0, HIDDEN, HIDDEN, 0.0, HIDDEN]);
    }

    #[test]
    fn a_window_hides_the_oldest_visible_positions() {
        let (mut row, visible) = ([7.0; 9], [0..3, 4..6, 8..9]);
        let mut with = |window| {
            write_windowed_bias(&mut row, &visible, window);
            (0..9).filter(|&column| row[column] == 0.0).collect::<Vec<_>>()
        };
        assert_eq!(with(None), [0, 1, 2, 4, 5, 8]);
        assert_eq!(with(Some(6)), [0, 1, 2, 4, 5, 8]);
        assert_eq!(with(Some(5)), [1, 2, 4, 5, 8]);
        assert_eq!(with(Some(2)), [5, 8]);
        assert_eq!(with(Some(1)), [8], "a row always sees itself");
    }

    proptest! {
        /// Whatever the packing, a row sees exactly the positions p of its own sequence with q - p < window.
        #[test]
        fn a_window_counts_positions_and_not_columns(
            prefix in 0_usize..12,
            gaps in prop::collection::vec(0_usize..4, 1..12),
            window in 1_usize..20,
        ) {
            // Own rows after the prefix, each some foreign rows further on.
            let mut columns: Vec<usize> = (0..prefix).collect();
            let mut visible: Vec<Range<usize>> = std::iter::once(0..prefix).collect();
            let mut next = prefix;
            for gap in gaps {
                next += gap;
                columns.push(next);
                visible.push(next..next + 1);
                next += 1;
            }
            let mut row = vec![1.0; next];
            write_windowed_bias(&mut row, &visible, Some(window));
            let newest = columns.len() - 1;
            for (column, bias) in row.iter().enumerate() {
                let position = columns.iter().position(|&own| own == column);
                let seen = position.is_some_and(|position| newest - position < window);
                prop_assert_eq!(*bias, if seen { 0.0 } else { HIDDEN });
            }
        }

        #[test]
        fn packs_keep_every_question_in_order_and_within_limits(
            sizes in prop::collection::vec((1_usize..60, 1_usize..40), 0..40),
            prefix in 1_usize..50,
            maximum_packed_rows in 1_usize..200,
        ) {
            let maximum_positions = 150;
            let demands: Vec<Demand> = sizes
                .iter()
                .enumerate()
                .map(|(request, &(suffix_rows, max_new_tokens))| Demand { request, suffix_rows, max_new_tokens })
                .collect();
            let packs = packs(prefix, &demands, maximum_packed_rows, maximum_positions);
            let flat: Vec<Demand> = packs.iter().flat_map(|pack| pack.members.clone()).collect();
            prop_assert_eq!(flat, demands);
            for pack in &packs {
                let rows: usize = pack.members.iter().map(|member| member.suffix_rows + member.max_new_tokens).sum();
                prop_assert_eq!(pack.total_rows, prefix + rows);
                if pack.members.len() > 1 {
                    prop_assert!(pack.total_rows <= maximum_positions);
                    prop_assert!(pack.members.iter().map(|member| member.suffix_rows).sum::<usize>() <= maximum_packed_rows);
                }
            }
        }
    }
}
