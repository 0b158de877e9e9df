;; expect: the guest trapped: thrown Wasm exception
;; frames: thrower, main
(module (tag $oops) (func $thrower (throw $oops)) (func $main (export "_start") (call $thrower)))
