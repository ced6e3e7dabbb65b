(* SPDX-License-Identifier: Apache-2.0 *)
(* OCaml: garbage collection, exceptions, hash tables, strings, channels, deep recursion. *)
type tree = Leaf | Node of tree * int * tree

let rec grow depth = if depth = 0 then Leaf else Node (grow (depth - 1), depth, grow (depth - 1))

let rec sum = function Leaf -> 0 | Node (left, value, right) -> sum left + value + sum right

let rec deep n = if n = 0 then 0 else 1 + deep (n - 1)

let () =
  let folder = if Array.length Sys.argv > 1 then Sys.argv.(1) else "/tmp" in
  let total = ref 0 in
  for _ = 1 to 40 do total := !total + sum (grow 14) done;
  Gc.compact ();
  Printf.printf "garbage %d, collected %b\n" !total ((Gc.stat ()).Gc.major_collections > 0);
  let table = Hashtbl.create 16 in
  List.iter (fun word -> Hashtbl.replace table word (1 + Option.value ~default:0 (Hashtbl.find_opt table word)))
    (String.split_on_char ' ' "to be or not to be");
  Hashtbl.fold (fun word count all -> (word, count) :: all) table []
  |> List.sort compare
  |> List.iter (fun (word, count) -> Printf.printf "%s%d " word count);
  print_newline ();
  (try ignore (List.find (fun x -> x > 3) [1; 2; 3]) with Not_found -> print_endline "not found");
  (try ignore (int_of_string "x") with Failure reason -> print_endline reason);
  (try print_int (1 / (Array.length Sys.argv - Array.length Sys.argv)) with Division_by_zero -> print_endline "division by zero");
  (try print_char "abc".[Array.length Sys.argv + 5] with Invalid_argument reason -> print_endline reason);
  Printf.printf "deep %d\n" (deep 50_000);
  let overflow = try deep (-1) > 0 with Stack_overflow -> true in
  Printf.printf "stack overflow %b\n" overflow;
  let name = Filename.concat folder "from_ocaml.txt" in
  let out = open_out name in
  for i = 1 to 300 do Printf.fprintf out "%d %.4f\n" i (sqrt (float_of_int i)) done;
  close_out out;
  let input = open_in name in
  let length = in_channel_length input in
  let characters = ref 0 in
  (try while true do characters := !characters + String.length (input_line input) done with End_of_file -> ());
  close_in input;
  Printf.printf "file %d %d %d\n" length !characters (Array.length (Sys.readdir folder));
  (try ignore (open_in "/none") with Sys_error reason -> print_endline reason);
  print_endline (Digest.to_hex (Digest.file name));
  exit 11
