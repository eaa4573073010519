import { SaeReader } from "../../../runtime/saes/sae-reader.js";
import { readerContract } from "./reader-contract.js";

readerContract(SaeReader);
