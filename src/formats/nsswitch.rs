//! The text of `/etc/nsswitch.conf` -> which services answer for which database (nsswitch.conf(5)).

use std::collections::BTreeMap;

/// The largest such file that is read, in bytes.
pub const NSSWITCH_MAX: u64 = 1 << 20;

/// The services of each database, in order, without what is done after each (`[NOTFOUND=return]`).
pub type Services = BTreeMap<Vec<u8>, Vec<Vec<u8>>>;

/// Returns what the text of an nsswitch.conf says; of a database that is there twice, the last counts.
pub fn services(text: &[u8]) -> Services {
    let mut services = Services::new();
    for line in text.split(|byte| *byte == b'\n') {
        let line = line.split(|byte| *byte == b'#').next().unwrap_or_default();
        let mut halves = line.splitn(2, |byte| *byte == b':');
        let (Some(name), Some(rest)) = (halves.next(), halves.next()) else { continue };
        let name = name.trim_ascii();
        if name.is_empty() || name.iter().any(u8::is_ascii_whitespace) {
            continue;
        }
        services.insert(name.to_vec(), names(rest));
    }
    services
}

fn names(text: &[u8]) -> Vec<Vec<u8>> {
    let mut names: Vec<Vec<u8>> = Vec::new();
    let mut is_action = false;
    for word in text.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()) {
        is_action |= word.starts_with(b"[");
        if !is_action && !word.contains(&b'/') && !names.iter().any(|name| name == word) {
            names.push(word.to_vec());
        }
        is_action &= !word.ends_with(b"]");
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actions_are_no_services() {
        let text = b"# all\npasswd: files systemd # too\nhosts:\tfiles mdns4_minimal [NOTFOUND = return] dns\nnothing\n: x\n";
        let shown: Vec<_> = services(text)
            .iter()
            .map(|(name, services)| {
                let services = services.iter().map(|name| String::from_utf8(name.clone()).unwrap());
                format!("{}={}", str::from_utf8(name).unwrap(), services.collect::<Vec<_>>().join(","))
            })
            .collect();
        assert_eq!(shown, ["hosts=files,mdns4_minimal,dns", "passwd=files,systemd"]);
    }
}
