import { SaeReader } from "../../runtime/sae-reader.js";
import { readerContract } from "./reader-contract.js";

readerContract(SaeReader);
