def test_whole(ran):
    print(ran.clone.root)
    print(ran.printed)
