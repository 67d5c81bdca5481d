//! Time of an open, by hand.
use std::time::Instant;
use cortenkv::{Db, Durability};
fn key(n: u64) -> [u8; 16] { let mut k=[0u8;16]; k[..8].copy_from_slice(&n.wrapping_mul(0x9E37_79B9_7F4A_7C15).to_be_bytes()); k[8..].copy_from_slice(&n.to_be_bytes()); k }
fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().unwrap(); let n: u64 = args.next().unwrap().parse().unwrap(); let mode = args.next().unwrap();
    match mode.as_str() {
        "fill" | "kill" => {
            let db = Db::builder(&dir).durability(Durability::None).build().unwrap();
            let t = Instant::now();
            for i in 0..n { db.put(key(i), [7u8; 100]).unwrap(); }
            println!("filled in {:?}", t.elapsed());
            if mode == "kill" { db.sync().unwrap(); std::process::exit(9); }
            let t = Instant::now(); db.close().unwrap(); println!("closed in {:?}", t.elapsed());
        }
        _ => {
            let t = Instant::now();
            let db = Db::builder(&dir).durability(Durability::None).index_images(mode != "off").build().unwrap();
            let e = t.elapsed();
            let r = db.open_report();
            println!("open {e:?} {r:?}");
            if mode == "check" { let t=Instant::now(); assert_eq!(db.iter().count() as u64, n); for i in 0..n { assert!(db.get(key(i)).unwrap().is_some()); } println!("checked {:?}", t.elapsed()); }
            std::process::exit(0);
        }
    }
}
