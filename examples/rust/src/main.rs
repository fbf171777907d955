fn main() {
    let handle = std::thread::spawn(|| "it works");
    println!("{}", handle.join().expect("the thread ends"));
}
