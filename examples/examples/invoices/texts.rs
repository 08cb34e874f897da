//! Invoices as they come in: texts, made up from a seed, the same each time.

const VENDORS: [&str; 8] = [
    "Alder & Sons",
    "Blue Harbour Freight",
    "Copper Lane Print",
    "Dune Software",
    "Elm Street Catering",
    "Fjord Timber",
    "Gable Insurance",
    "Heron Office Supplies",
];

/// Writes invoice number `number` of the batch that belongs to a seed. One in fifty is for a large amount.
pub(crate) fn invoice(seed: u64, number: u32) -> String {
    let mut chance = (0..).map(|draw| random(seed, number, draw));
    let mut below = |limit: u64| chance.next().unwrap_or_default() % limit;

    let vendor = VENDORS[below(VENDORS.len() as u64) as usize];
    let date = format!("2026-{:02}-{:02}", 1 + below(12), 1 + below(28));
    let cents = if below(50) == 0 { 500_100 + below(4_000_000) } else { 900 + below(300_000) };
    let amount = format!("{}.{:02}", cents / 100, cents % 100);
    if below(2) == 0 {
        format!("{vendor}\nInvoice no. {number}\nDate: {date}\n\nGoods as ordered\nTotal due: EUR {amount}\n")
    } else {
        format!("INVOICE {number} of {date}\nFrom: {vendor}\n\nPlease pay EUR {amount} within 30 days.\n")
    }
}

/// Returns 64 bits that look like chance: splitmix64 over what they belong to.
pub(crate) fn random(seed: u64, number: u32, draw: u64) -> u64 {
    [u64::from(number), draw].into_iter().fold(seed, |bits, part| {
        let bits = (bits ^ part).wrapping_add(0x9e37_79b9_7f4a_7c15);
        let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        bits ^ (bits >> 31)
    })
}
