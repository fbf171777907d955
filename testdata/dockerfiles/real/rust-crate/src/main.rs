use std::collections::BTreeMap;

fn main() -> std::io::Result<()> {
    let text = std::fs::read_to_string(std::env::args().nth(1).expect("a file"))?;
    let mut counts: BTreeMap<&str, u32> = BTreeMap::new();
    for word in text.split_whitespace() {
        *counts.entry(word).or_default() += 1;
    }
    for (word, count) in counts {
        println!("{count} {word}");
    }
    Ok(())
}
